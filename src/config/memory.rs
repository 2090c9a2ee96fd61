//! `--memory`: the memory that archives may take, and the memory available to this process.

use std::fs;
use std::path::Path;

use crate::common::exit::Failure;

/// Memory assumed if the system does not report any, in bytes.
const UNKNOWN_BYTES: u64 = 4 << 30;

/// Minimum memory, in bytes. Less would not even admit a small archive.
const MIN_BYTES: u64 = 16 << 20;

/// The memory that the archives being read may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Number of bytes.
    pub bytes: u64,
    /// Whether it is `auto`: a share of the available memory.
    pub is_auto: bool,
}

impl Memory {
    /// Parses `auto`, or a number of bytes, KiB, MiB or GiB. `name` is the setting's name in messages.
    ///
    /// # Errors
    ///
    /// A usage failure for anything else, and for less than 16 MiB.
    pub fn parse(name: &str, text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        if text == "auto" {
            let bytes = share(available(&|path| fs::read_to_string(path).ok()));
            return Ok(Self { bytes, is_auto: true });
        }
        match size(text) {
            Some(bytes) if bytes >= MIN_BYTES => Ok(Self { bytes, is_auto: false }),
            Some(_) => Err(Failure::usage(format!("{name} is {text:?}: archives need at least 16MiB"))),
            None => Err(Failure::usage(format!(
                "{name} is {text:?}: it takes `auto`, or a whole number of bytes, KiB, MiB or GiB, such as \
                 2GiB"
            ))),
        }
    }
}

/// Parses a size with an optional unit, in bytes.
fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Returns three quarters of the available memory, in bytes. The rest is for batches and for other programs.
fn share(available: Option<u64>) -> u64 {
    (available.unwrap_or(UNKNOWN_BYTES) / 4 * 3).max(MIN_BYTES)
}

/// Returns the memory available to this process, in bytes: the machine's memory, or the lowest limit of its control
/// groups if that is less.
///
/// A limit applies to all groups below it, so all ancestors are read. In a container the path may be the host's; then
/// only its topmost ancestors exist. Source: Linux, "cgroup-v2" (memory.max) and "cgroup-v1/memory"
/// (memory.limit_in_bytes).
fn available(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:").map(str::to_owned))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1 << 10)
    });
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(memory_group).flat_map(|(root, file, group)| {
        let group = Path::new(group.trim_start_matches('/'));
        let ancestors = group.ancestors().map(|group| Path::new(root).join(group).join(file));
        ancestors.filter_map(|path| read(&path)?.trim().parse::<u64>().ok()).collect::<Vec<_>>()
    });
    limits.chain(machine).min()
}

/// Parses a line of `/proc/self/cgroup` that has memory limits, into their root folder, their file name and the group.
fn memory_group(line: &str) -> Option<(&'static str, &'static str, &str)> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?);
    if controllers.is_empty() {
        Some(("/sys/fs/cgroup", "memory.max", group))
    } else if controllers.split(',').any(|controller| controller == "memory") {
        Some(("/sys/fs/cgroup/memory", "memory.limit_in_bytes", group))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_in_units() {
        for (text, bytes) in [
            ("16777216", 16 << 20),
            ("16MiB", 16 << 20),
            ("2GiB", 2 << 30),
            (" 2 gib ", 2 << 30),
            ("20000KiB", 20_000 << 10),
            ("8192GiB", 8 << 40),
        ] {
            assert_eq!(Memory::parse("x", text), Ok(Memory { bytes, is_auto: false }), "{text}");
        }
        for text in
            ["", "GiB", "2 GB", "2G", "-1", "+2GiB", "1.5GiB", "2GiB2", "all", "99999999999GiB", "15MiB", "0"]
        {
            assert!(
                Memory::parse("--memory", text).unwrap_err().message.starts_with("--memory is"),
                "{text}"
            );
        }
        assert!(Memory::parse("x", "auto").unwrap().is_auto);
    }

    /// Returns the memory available on a system with these files.
    fn found(files: &[(&str, &str)]) -> Option<u64> {
        available(&|path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_smallest_limit_of_machine_and_control_groups_counts() {
        let machine = ("/proc/meminfo", "MemFree: 1 kB\nMemTotal:       8388608 kB\n");
        assert_eq!(found(&[machine]), Some(8 << 30));
        assert_eq!(found(&[]), None);
        let group = ("/proc/self/cgroup", "0::/pods/a\n");
        let of = |path: &'static str, text: &'static str| found(&[machine, group, (path, text)]);
        assert_eq!(of("/sys/fs/cgroup/pods/a/memory.max", "4294967296\n"), Some(4 << 30));
        assert_eq!(of("/sys/fs/cgroup/pods/memory.max", "2147483648\n"), Some(2 << 30));
        assert_eq!(of("/sys/fs/cgroup/memory.max", "1073741824\n"), Some(1 << 30), "as in a container");
        assert_eq!(of("/sys/fs/cgroup/pods/a/memory.max", "max\n"), Some(8 << 30));
        let group = ("/proc/self/cgroup", "5:cpu:/x\n4:blkio,memory:/docker/a\n0::/\n");
        let of = |path: &'static str, text: &'static str| found(&[machine, group, (path, text)]);
        assert_eq!(of("/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "536870912\n"), Some(1 << 29));
        assert_eq!(of("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"), Some(1 << 29));
        assert_eq!(of("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"), Some(8 << 30));
    }

    #[test]
    fn archives_may_take_three_quarters() {
        assert_eq!(share(Some(4 << 30)), 3 << 30);
        assert_eq!(share(Some(1 << 20)), MIN_BYTES);
        assert_eq!(share(None), 3 << 30);
    }
}
