//! Memory, processors, the user, the kernel's sandbox, the terminal.

use super::Check;
use crate::vm::memory;
use bytesize::ByteSize;
use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};

/// Memory of a VM when nobody says otherwise, and what the host's own processes take beside it, in MiB.
const WANTED: u64 = 2304;

/// How much memory a VM can get.
pub(super) fn memory() -> Check {
    judge_memory(memory::there_mib(), memory::available_mib())
}

fn judge_memory(there: Option<u64>, available: Option<u64>) -> Check {
    let (Some(there), Some(available)) = (there, available) else {
        return Check::warning("memory", "the kernel does not tell how much there is", "mount /proc");
    };
    let size = |mib: u64| ByteSize::mib(mib).display().iec().to_string();
    let finding = format!("{} available of {}", size(available.min(there)), size(there));
    if there < WANTED {
        let finding = format!("{finding}; a VM gets 2 GiB unless told otherwise");
        return Check::problem(
            "memory",
            finding,
            "raise the limit of this container, or give builds less with --memory",
        );
    }
    if available < WANTED {
        let finding = format!("{finding}; a VM gets 2 GiB unless told otherwise");
        return Check::warning("memory", finding, "end what uses it, or give builds less with --memory");
    }
    Check::ok("memory", finding)
}

/// Processors that this process may use.
pub(super) fn processors() -> Check {
    match std::thread::available_parallelism() {
        Ok(count) if count.get() > 1 => Check::ok("processors", format!("{count} usable")),
        Ok(_) => {
            let mend = "give this machine or container a second one";
            Check::warning("processors", "1 usable: QEMU's own work and the VM share it", mend)
        }
        Err(error) => Check::warning("processors", format!("cannot be counted: {error}"), "give --cpus"),
    }
}

/// Nothing here needs root, and root's files are in more danger.
pub(super) fn user() -> Check {
    let (user, effective) = (nix::unistd::getuid(), nix::unistd::geteuid());
    if effective.is_root() {
        let finding = "this is root: builds work, but nothing of them needs it";
        return Check::warning("user", finding, "run particle-vm as an ordinary user");
    }
    Check::ok("user", format!("ordinary (uid {user})"))
}

/// Whether the kernel lets a process confine itself to its files.
pub(super) fn landlock() -> Check {
    let supported = |abi: ABI| {
        // A ruleset that nobody enforces changes nothing for this process.
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        ruleset.handle_access(AccessFs::from_all(abi)).and_then(Ruleset::create).is_ok()
    };
    if supported(ABI::V1) {
        return Check::ok("landlock", "QEMU and virtiofsd are confined to their files");
    }
    Check::warning(
        "landlock",
        "the kernel does not have it: QEMU and virtiofsd are confined by seccomp and file permissions only",
        "boot a kernel with CONFIG_SECURITY_LANDLOCK and `landlock` in its lsm= parameter",
    )
}

/// Whether the terminal is told to expect UTF-8, which bars and messages are written in.
pub(super) fn locale() -> Check {
    judge_locale(|name| std::env::var(name).ok())
}

fn judge_locale(variable: impl Fn(&str) -> Option<String>) -> Check {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let set = names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let value = set.unwrap_or_else(|| "C".into());
    let charset = value.to_ascii_lowercase().replace('-', "");
    if charset.contains("utf8") {
        Check::ok("locale", value)
    } else {
        Check::warning("locale", format!("{value}: bars may show as question marks"), "export LC_ALL=C.UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn memory_that_is_not_there_is_worse_than_memory_in_use() {
        assert_eq!(judge_memory(Some(8192), Some(4096)).verdict, Verdict::Ok);
        let used = judge_memory(Some(8192), Some(1024));
        assert_eq!((used.verdict, used.finding.starts_with("1.0 GiB available of 8.0 GiB")), (Verdict::Warning, true));
        assert_eq!(judge_memory(Some(1024), Some(4096)).verdict, Verdict::Problem);
        assert_eq!(judge_memory(None, Some(1)).verdict, Verdict::Warning);
    }

    #[test]
    fn the_locale_is_that_of_the_first_variable_that_is_set() {
        let judge = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).into());
            judge_locale(find).verdict
        };
        assert_eq!(judge(&[("LANG", "de_DE.UTF-8")]), Verdict::Ok);
        assert_eq!(judge(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]), Verdict::Warning);
        assert_eq!(judge(&[("LC_ALL", ""), ("LANG", "C.utf8")]), Verdict::Ok);
        assert_eq!(judge(&[]), Verdict::Warning);
    }
}
