//! DPDK's log: written to standard error, its last lines kept for error messages.

use std::ffi::{c_char, c_void};
use std::sync::{Mutex, Once, PoisonError};

use vinet_dpdk_sys as sys;

/// How much of the log is kept, in bytes.
const TAIL_LEN_MAX: usize = 16 * 1024;

/// The most lines that an error message repeats.
const LINES_MAX: usize = 6;

struct Tail {
    bytes: Vec<u8>,
    /// Bytes written in all, so that a mark stays right when old bytes go.
    written: u64,
}

static TAIL: Mutex<Tail> = Mutex::new(Tail { bytes: Vec::new(), written: 0 });
static CAPTURE: Once = Once::new();

/// A point in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogMark(u64);

impl LogMark {
    /// Now.
    pub(crate) fn now() -> LogMark {
        LogMark(TAIL.lock().unwrap_or_else(PoisonError::into_inner).written)
    }

    /// What DPDK said since, at most its last few lines, in one line.
    pub(crate) fn text(self) -> String {
        since(self)
    }
}

/// Sends DPDK's log here from now on.
pub(super) fn capture() -> LogMark {
    CAPTURE.call_once(|| {
        // SAFETY: `write` has the type of a cookie's write function and lives as long as the program.
        let stream = unsafe { sys::vinet_log_stream(Some(write)) };
        if !stream.is_null() {
            // SAFETY: the stream is open and never closed. EAL logs to it from now on, in place of standard output,
            // which belongs to the program's own results.
            unsafe { sys::rte_openlog_stream(stream) };
        }
    });
    LogMark::now()
}

pub(super) fn since(mark: LogMark) -> String {
    let tail = TAIL.lock().unwrap_or_else(PoisonError::into_inner);
    let new = usize::try_from(tail.written - mark.0).unwrap_or(usize::MAX).min(tail.bytes.len());
    let text = String::from_utf8_lossy(&tail.bytes[tail.bytes.len() - new..]).into_owned();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("EAL: Detected") && !line.starts_with("EAL: Selected"))
        .collect();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("; ")
}

/// The write function of the log's stream. The stream serialises its calls.
unsafe extern "C" fn write(_cookie: *mut c_void, bytes: *const c_char, count: usize) -> isize {
    // SAFETY: standard error is open or the write fails harmlessly; `bytes` holds `count` bytes, says stdio.
    let written = unsafe {
        let _ = libc::write(libc::STDERR_FILENO, bytes.cast(), count);
        std::slice::from_raw_parts(bytes.cast::<u8>(), count)
    };
    let mut tail = TAIL.lock().unwrap_or_else(PoisonError::into_inner);
    tail.bytes.extend_from_slice(written);
    tail.written += count as u64;
    let excess = tail.bytes.len().saturating_sub(TAIL_LEN_MAX);
    tail.bytes.drain(..excess);
    count.cast_signed()
}
