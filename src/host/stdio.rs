//! What must be right before `main`: the standard descriptors, and a signal that would kill.
//!
//! Rust's runtime opens `/dev/null` in the place of a closed descriptor, and aborts where there is no `/dev/null`. So an
//! answer that nobody can read would look like one that was delivered, and an empty chroot would be fatal.
#![allow(unsafe_code)]

use nix::libc;

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = prepare;

extern "C" fn prepare() {
    const WHY: &[u8] = b"nodecheck: standard output is closed: nobody could read the answer\n";
    // SAFETY: all of these are plain system calls that need nothing the runtime would have set up; the texts are static.
    unsafe {
        // A file size limit (ulimit -f) is an error of write, not a death.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        if libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) == -1 {
            libc::write(libc::STDERR_FILENO, WHY.as_ptr().cast(), WHY.len());
            libc::_exit(3);
        }
        for fd in [libc::STDIN_FILENO, libc::STDERR_FILENO] {
            // The lowest free descriptor is the closed one; a memory file swallows what is written to it.
            if libc::fcntl(fd, libc::F_GETFD) == -1 && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) == -1 {
                libc::memfd_create(c"null".as_ptr(), 0);
            }
        }
    }
}
