//! `hostname`: the name of the system.

use super::Site;
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::Hostname;

/// hosts(5).
const HOSTS: &str = "/etc/hosts";

/// What a system without the file needs.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\n\
                         ff02::2\tip6-allrouters\n";

/// Write hostname(5) and hosts(5).
pub(super) fn perform(site: &mut Site<'_>, options: &Hostname) -> Result<(), Failure> {
    let tree = site.tree()?;
    let hosts = hosts(&tree.read_text(HOSTS)?, &options.hostname);
    tree.write("/etc/hostname", format!("{}\n", options.hostname), 0o644)?;
    Ok(tree.write(HOSTS, hosts, 0o644)?)
}

/// The hosts file with the name at the address that Debian uses for it (Debian Reference, 5.1.1).
fn hosts(before: &str, hostname: &str) -> String {
    let short = hostname.split('.').next().unwrap_or(hostname);
    let names = if short == hostname { hostname.to_owned() } else { format!("{hostname} {short}") };
    let own = format!("127.0.1.1\t{names}");
    let before = if before.trim().is_empty() { LOCALHOST } else { before };
    let is_own = |line: &&str| line.split_ascii_whitespace().next() == Some("127.0.1.1");
    let mut lines: Vec<_> = before.lines().filter(|line| !is_own(line)).collect();
    let after = lines.iter().position(|line| line.starts_with("127.0.0.1")).map_or(0, |position| position + 1);
    lines.insert(after, &own);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_stands_after_localhost() {
        assert_eq!(
            hosts("127.0.0.1\tlocalhost\n::1\tlocalhost\n", "a"),
            "127.0.0.1\tlocalhost\n127.0.1.1\ta\n::1\tlocalhost\n"
        );
    }

    #[test]
    fn a_name_before_is_replaced() {
        let before = "127.0.0.1 localhost\n127.0.1.1 old\n";
        assert_eq!(hosts(before, "new.example.org"), "127.0.0.1 localhost\n127.0.1.1\tnew.example.org new\n");
    }

    #[test]
    fn a_missing_file_gets_localhost() {
        assert!(hosts("", "a").starts_with("127.0.0.1\tlocalhost\n127.0.1.1\ta\n::1"));
    }
}
