//! A recorded node, replayed. The layout of its directory:
//!
//! ```text
//! root/          the tree that stands for /
//! clock          the time of the look, RFC 3339 UTC
//! stat.toml      path -> mtime, ctime, birth, inode, mode, size, fstype, directory, kind, errno, read_errno
//! netfilter/     optional: tables as the kernel hands them out: legacy-FAMILY-TABLE (see `parse::xtables::recorded`)
//! past/          optional: NAME.json, what a check remembered before this look (written by capture)
//! before/        optional: a scenario that is looked at first (and so on), so that windows can be told
//! expect/NAME.txt   exit code and text of the check NAME
//! ```

use std::path::Path;
use std::sync::Arc;

use crate::history::History;
use crate::host::{Error, Host, machine};

/// More scenarios in a row are a mistake, or a link that leads back.
const LONGEST: usize = 64;

/// Opens a scenario: `look` is called for every host before it, oldest first; returned is the last one, which is still
/// to be looked at, and the history so far.
pub fn open(dir: &Path, mut look: impl FnMut(&Arc<Host>, &Arc<History>)) -> Result<(Arc<Host>, Arc<History>), Error> {
    let history = Arc::new(History::in_memory());
    let mut chain = vec![dir.to_owned()];
    while let Some(before) = chain.last().map(|dir| dir.join("before")).filter(|dir| machine::is_directory(dir)) {
        if chain.len() == LONGEST {
            return Err(Error::Failed(format!("{}: more than {LONGEST} scenarios in a row", dir.display())));
        }
        chain.push(before);
    }
    for (left, dir) in chain.iter().enumerate().rev() {
        for file in machine::list_given(&dir.join("past"))? {
            if let Some(check) = file.strip_suffix(".json") {
                let text = machine::read_given(&dir.join("past").join(&file))?;
                history.seed(check, &text).map_err(|why| Error::Failed(format!("past/{file}: {why}")))?;
            }
        }
        let host = Arc::new(Host::scenario(dir)?);
        if left == 0 {
            return Ok((host, history));
        }
        look(&host, &history);
    }
    Err(Error::Failed(format!("{}: no scenario", dir.display())))
}

/// What `expect/NAME.txt` holds for a verdict.
pub fn expectation(code: u8, text: &str) -> String {
    format!("exit {code}\n{text}\n")
}
