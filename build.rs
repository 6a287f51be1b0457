//! Embeds checks/: adding a definition needs no Rust.

use std::path::Path;
use std::{env, fs};

fn main() {
    let dir = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("checks");
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut names: Vec<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
        .collect();
    names.sort();
    let items: Vec<String> =
        names.iter().map(|name| format!("({name:?}, include_str!({:?}))", dir.join(format!("{name}.toml")))).collect();
    let out = Path::new(&env::var("OUT_DIR").unwrap()).join("checks.rs");
    fs::write(out, format!("&[{}]", items.join(",\n"))).unwrap();
}
