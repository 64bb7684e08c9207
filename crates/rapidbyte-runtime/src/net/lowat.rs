//! `SO_RCVLOWAT`: how many bytes must be there before a reader is woken.

use std::io;
use std::os::fd::AsRawFd;
use tokio::net::TcpStream;

/// Sets it; the kernel wakes at once when that much is there already.
pub(crate) fn set(stream: &TcpStream, bytes: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the descriptor is open for as long as `stream` is borrowed, and `value` lives through the call.
    let code = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const value).cast::<libc::c_void>(), size)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
