//! Whether the kernel allows what the runtime needs, said before anything else fails obscurely.

use std::fs;
use std::io;

use super::error::DiskError;

/// What one executor's rings need of locked memory, bytes.
const MEMLOCK_BYTES: u64 = 512 << 10;

/// Makes a small ring and gives it back.
pub fn check_io_uring() -> Result<(), DiskError> {
    match io_uring::IoUring::new(8) {
        Ok(_) => Ok(()),
        Err(error) => {
            let setting = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
            Err(DiskError::Kernel(io_uring_text(&error, setting.as_deref().map(str::trim))))
        }
    }
}

fn io_uring_text(error: &io::Error, setting: Option<&str>) -> String {
    let remedy = match (error.raw_os_error(), setting) {
        (Some(libc::ENOSYS), _) => {
            "this kernel has no io_uring, or a seccomp profile hides it: Linux 5.11 or newer is \
             needed, and in a container a seccomp profile that allows io_uring_setup, \
             io_uring_enter and io_uring_register"
        }
        (Some(libc::EPERM | libc::EACCES), Some("1" | "2")) => {
            "the system setting kernel.io_uring_disabled forbids it: \
             run `sysctl -w kernel.io_uring_disabled=0` (and put it into /etc/sysctl.d)"
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a seccomp profile forbids it: allow io_uring_setup, io_uring_enter and \
             io_uring_register (docker: --security-opt seccomp=FILE, Kubernetes: \
             securityContext.seccompProfile)"
        }
        (Some(libc::ENOMEM), _) => {
            "the limit on locked memory is too low: raise it with `ulimit -l` or LimitMEMLOCK="
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => {
            "too many files are open: raise the limit with `ulimit -n` or LimitNOFILE="
        }
        _ => "see io_uring_setup(2) for the meaning of the error",
    };
    format!("io_uring is not available: {error}; {remedy}")
}

/// Compares the limit on locked memory with what the executors' rings need.
pub fn check_memlock() -> Result<(), DiskError> {
    // Root is exempt. Where /proc is missing the rings will say it themselves.
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(()) };
    let Ok(limits) = fs::read_to_string("/proc/self/limits") else { return Ok(()) };
    match memlock_text(&status, &limits) {
        Some(text) => Err(DiskError::Kernel(text)),
        None => Ok(()),
    }
}

fn memlock_text(status: &str, limits: &str) -> Option<String> {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    if capabilities.is_some_and(|mask| mask & CAP_IPC_LOCK != 0) {
        return None;
    }
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    let soft = line.split_whitespace().next()?;
    let bytes: u64 = soft.parse().ok()?; // "unlimited" is not a number
    (bytes < MEMLOCK_BYTES).then(|| {
        format!(
            "the limit on locked memory is {bytes} bytes and io_uring needs {MEMLOCK_BYTES}: raise \
             it with `ulimit -l {}`, LimitMEMLOCK= in the systemd unit, or --ulimit memlock= of \
             the container",
            MEMLOCK_BYTES / 1024
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_remedy() {
        for (errno, setting, expected) in [
            (libc::ENOSYS, None, "Linux 5.11 or newer"),
            (libc::EPERM, Some("2"), "sysctl -w kernel.io_uring_disabled=0"),
            (libc::EPERM, Some("0"), "seccomp"),
            (libc::ENOMEM, Some("0"), "ulimit -l"),
            (libc::EMFILE, None, "ulimit -n"),
        ] {
            let text = io_uring_text(&io::Error::from_raw_os_error(errno), setting);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn too_little_locked_memory_is_told() {
        let limits = |soft: &str| format!("Max locked memory         {soft}   65536   bytes\n");
        let user = "CapEff:\t0000000000000000\n";
        for (status, soft, refused) in [
            (user, "65536", true),
            (user, "524288", false),
            (user, "unlimited", false),
            ("CapEff:\t000001ffffffffff\n", "65536", false),
            ("", "65536", true),
        ] {
            let text = memlock_text(status, &limits(soft));
            assert_eq!(text.is_some(), refused, "{status} {soft} {text:?}");
        }
    }
}
