//! The two calls that Rust's libraries have no form for.

use std::ffi::{c_int, c_void};
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::libc;

/// `IPT_SO_GET_INFO`, `IP6T_SO_GET_INFO`.
pub(super) const GET_INFO: c_int = 64;
/// `IPT_SO_GET_ENTRIES`, `IP6T_SO_GET_ENTRIES`.
pub(super) const GET_ENTRIES: c_int = 65;

/// `getsockopt(2)`; all of `buffer` is what the kernel reads and writes.
#[allow(unsafe_code)]
pub(super) fn get(socket: &OwnedFd, level: c_int, option: c_int, buffer: &mut [u8]) -> Result<(), Errno> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(|_| Errno::EFBIG)?;
    // SAFETY: the socket is open as long as it is borrowed, and the kernel writes at most `length` bytes into the buffer.
    let code = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast::<c_void>(), &mut length)
    };
    Errno::result(code).map(|_| ())
}

/// Memory of its own that goes back to the system at once: the daemon must not keep what one look needed.
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: NonZeroUsize,
}

// SAFETY: the memory belongs to this value alone, and is changed through `&mut` only.
#[allow(unsafe_code)]
unsafe impl Send for Mapping {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeros.
    #[allow(unsafe_code)]
    pub(super) fn new(length: usize) -> Result<Mapping, Errno> {
        let length = NonZeroUsize::new(length).ok_or(Errno::EINVAL)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a new mapping at a place that the kernel chooses touches nothing that there is.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length.get(), access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Mapping { start: NonNull::new(start.cast()).ok_or(Errno::ENOMEM)?, length })
    }
}

impl Deref for Mapping {
    type Target = [u8];

    #[allow(unsafe_code)]
    fn deref(&self) -> &[u8] {
        // SAFETY: `length` bytes from `start` on are mapped and initialized until this value is dropped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length.get()) }
    }
}

impl DerefMut for Mapping {
    #[allow(unsafe_code)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and this value is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length.get()) }
    }
}

impl Drop for Mapping {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: nothing is borrowed of it any more. It can't fail for a mapping that is there.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length.get()) };
    }
}
