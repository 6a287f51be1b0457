//! A closed standard output.
//!
//! Before `main`, Rust's runtime opens `/dev/null` in the place of a closed descriptor (and aborts where there is no
//! `/dev/null`): an answer that nobody can read would look like one that was delivered. So it is looked at earlier.
#![allow(unsafe_code)]

use nix::libc;

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = refuse_closed_stdout;

extern "C" fn refuse_closed_stdout() {
    const WHY: &[u8] = b"nodecheck: standard output is closed: nobody could read the answer\n";
    // SAFETY: fcntl, write and _exit are async-signal-safe and need nothing that the runtime would have set up; the
    // buffer is static.
    unsafe {
        if libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) == -1 {
            libc::write(libc::STDERR_FILENO, WHY.as_ptr().cast(), WHY.len());
            libc::_exit(3);
        }
    }
}
