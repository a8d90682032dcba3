//! How much memory a VM can have.

use std::fs;
use std::path::Path;

/// Memory of this machine in MiB, or the limit of the control group that this process runs in, whichever is less. None
/// when the kernel does not tell.
pub fn there_mib() -> Option<u64> {
    let machine = meminfo(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    let limits = fs::read_to_string("/proc/self/cgroup").map(|groups| limits(&groups)).unwrap_or_default();
    limits.into_iter().chain([machine]).min()
}

/// Memory in MiB that could be used now without swapping.
pub fn available_mib() -> Option<u64> {
    meminfo(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}

/// The limits of the group and of those above it, in MiB (control groups, version 2).
fn limits(groups: &str) -> Vec<u64> {
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let root = Path::new("/sys/fs/cgroup");
    let path = root.join(group);
    let above = path.ancestors().take_while(|folder| folder.starts_with(root));
    let values = above.filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok());
    values.filter_map(|value| Some(value.trim().parse::<u64>().ok()? >> 20)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "MemTotal:       24545280 kB\nMemFree:  100 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(meminfo(text, "MemTotal:"), Some(23970));
        assert_eq!(meminfo(text, "MemAvailable:"), Some(2));
        assert_eq!(meminfo(text, "SwapTotal:"), None);
        assert!(there_mib().is_some_and(|mib| mib > 0));
    }

    #[test]
    fn a_path_that_leaves_the_hierarchy_is_no_limit() {
        assert!(limits("0::/../..\n").is_empty() || there_mib().is_some());
        assert!(limits("12:memory:/old\n").is_empty());
    }
}
