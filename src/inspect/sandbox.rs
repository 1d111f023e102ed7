//! The sandbox of the inspecting process: resource limits and a seccomp filter. Neither needs a privilege.
//!
//! The filter admits memory, the open descriptors and the exit; any other system call ends the process. So a parser that
//! a volume has taken over can open no file and no socket, and can start no process. Landlock and namespaces would add
//! nothing: the calls that they restrict are not admitted.

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Address space: the cache of 64 MiB, a decoder with its window of 128 MiB, and the binary.
const MEMORY: u64 = 512 << 20;
/// Seconds of CPU time. The parent's deadline is earlier.
const CPU_TIME: u64 = 30;
/// Descriptors that a service manager may have passed; all others are closed by `execve`.
const INHERITED: std::ops::Range<i32> = 3..1024;

/// System calls that are admitted with any arguments.
const ADMITTED: [libc::c_long; 25] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
/// System calls that are admitted for memory that cannot be executed; the protection is their third argument.
const ADMITTED_WITHOUT_EXECUTION: [libc::c_long; 2] = [libc::SYS_mmap, libc::SYS_mprotect];

/// Closes the descriptors above the standard ones.
pub(super) fn close_inherited_descriptors() {
    for descriptor in INHERITED {
        let _ = nix::unistd::close(descriptor);
    }
}

/// Enters the sandbox. An error means that the process must not go on.
pub(super) fn enter() -> io::Result<()> {
    let limits = [
        (Resource::As, MEMORY),
        (Resource::Cpu, CPU_TIME),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, 0),
        (Resource::Nproc, 0),
    ];
    for (resource, limit) in limits {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    seccompiler::apply_filter(&build_filter().map_err(io::Error::other)?).map_err(io::Error::other)
}

fn build_filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let not_executable =
        SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?;
    let mut rules: BTreeMap<_, _> = ADMITTED.iter().map(|call| (*call, Vec::new())).collect();
    for call in ADMITTED_WITHOUT_EXECUTION {
        rules.insert(call, vec![SeccompRule::new(vec![not_executable.clone()])?]);
    }
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)?.try_into()
}
