//! What the control groups of this process allow, in version 1 and 2: the lowest limit of its own
//! group and of all above. Read at each call, because it may change while we run.

use std::fs;
use std::path::Path;

/// A limit that control groups know.
#[derive(Clone, Copy)]
pub struct Limit {
    /// Who enforces it; the name of a folder in version 1.
    controller: &'static str,
    /// Its files in version 2 and in version 1.
    files: [&'static str; 2],
    read: fn(folder: &Path, file: &str) -> Option<u64>,
}

/// In bytes.
pub const MEMORY: Limit = Limit {
    controller: "memory",
    files: ["memory.max", "memory.limit_in_bytes"],
    read: bytes,
};

/// Threads and processes that may be added to those there are.
pub const TASKS: Limit = Limit {
    controller: "pids",
    files: ["pids.max", "pids.max"],
    read: tasks_left,
};

/// Thousandths of one processor.
pub const CPU: Limit = Limit {
    controller: "cpu",
    files: ["cpu.max", "cpu.cfs_quota_us"],
    read: thousandths,
};

/// What is in force now; `root` is `/` but in tests. `None`: no group has such a limit.
pub fn lowest(root: &Path, limit: Limit) -> Option<u64> {
    // Without /proc nobody says which groups are ours. In a container it is what is mounted.
    let groups = fs::read_to_string(root.join("proc/self/cgroup"));
    let groups = groups.unwrap_or_else(|_| format!("0::/\n1:{}:/\n", limit.controller));
    let lines = groups.lines();
    lines.filter_map(|line| limit_of(root, line, limit)).min()
}

/// One line of /proc/self/cgroup: `0::/path` (version 2) or `4:memory:/path` (version 1).
fn limit_of(root: &Path, line: &str, limit: Limit) -> Option<u64> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let mount = root.join("sys/fs/cgroup");
    let (mount, file) = match controllers {
        "" => (mount, limit.files[0]),
        list if list.split(',').any(|name| name == limit.controller) => {
            (mount.join(limit.controller), limit.files[1])
        }
        _ => return None,
    };
    // A limit above counts as much. In a container the path may be one of the host, which is
    // not seen there: then the mount itself is our group.
    let own = mount.join(path.trim_start_matches('/'));
    let folders = own.ancestors();
    let folders = folders.take_while(|folder| folder.starts_with(&mount));
    folders
        .filter_map(|folder| (limit.read)(folder, file))
        .min()
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// `max`, and what version 1 writes for it, are no limits.
fn bytes(folder: &Path, file: &str) -> Option<u64> {
    number(folder, file).filter(|bytes| *bytes < NO_LIMIT)
}

/// Version 1 writes the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 60;

fn tasks_left(folder: &Path, file: &str) -> Option<u64> {
    let used = number(folder, "pids.current").unwrap_or(0);
    Some(number(folder, file)?.saturating_sub(used))
}

/// Version 2 has quota and period in one file, version 1 in two; -1 and `max` are no limits.
fn thousandths(folder: &Path, file: &str) -> Option<u64> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period = words.next().and_then(|word| word.parse().ok());
    let period = period.or_else(|| number(folder, "cpu.cfs_period_us"))?;
    quota.saturating_mul(1000).checked_div(period)
}

#[cfg(test)]
mod tests {
    use super::{CPU, Limit, MEMORY, TASKS, lowest};
    use std::path::{Path, PathBuf};

    /// Their paths and texts.
    type Files = &'static [(&'static str, &'static str)];

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: Files) -> Root {
            let own = format!("onemcp-group-{}-{name}", std::process::id());
            let root = std::env::temp_dir().join(own);
            for (path, text) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Root(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const GROUP: &str = "proc/self/cgroup";

    fn check(limit: Limit, name: &str, files: Files, expected: Option<u64>) {
        let root = Root::new(&format!("{}-{name}", limit.controller), files);
        assert_eq!(lowest(&root.0, limit), expected, "{name}");
    }

    #[test]
    fn the_lowest_memory_of_all_groups_counts() {
        let cases: &[(&str, Files, Option<u64>)] = &[
            ("none", &[], None),
            (
                "v2-root",
                &[(GROUP, "0::/\n"), ("sys/fs/cgroup/memory.max", "4096\n")],
                Some(4096),
            ),
            (
                "v2-own",
                &[
                    (GROUP, "0::/a.slice/b.service\n"),
                    ("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n"),
                    ("sys/fs/cgroup/a.slice/memory.max", "1000\n"),
                ],
                Some(1000),
            ),
            (
                "v2-both",
                &[
                    (GROUP, "0::/a/b\n"),
                    ("sys/fs/cgroup/a/b/memory.max", "900\n"),
                    ("sys/fs/cgroup/a/memory.max", "1000\n"),
                ],
                Some(900),
            ),
            (
                "v2-max",
                &[(GROUP, "0::/\n"), ("sys/fs/cgroup/memory.max", "max\n")],
                None,
            ),
            (
                "v1",
                &[
                    (GROUP, "9:cpu,cpuacct:/c\n4:memory:/docker/1\n"),
                    (
                        "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
                        "5000\n",
                    ),
                    (
                        "sys/fs/cgroup/memory/memory.limit_in_bytes",
                        "9223372036854771712\n",
                    ),
                ],
                Some(5000),
            ),
            (
                "v1-container",
                &[
                    (GROUP, "4:memory:/docker/not-seen-here\n"),
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "6000\n"),
                ],
                Some(6000),
            ),
            (
                "hybrid",
                &[
                    (GROUP, "4:memory:/\n0::/x\n"),
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n"),
                ],
                Some(7000),
            ),
            (
                "v2-without-proc",
                &[("sys/fs/cgroup/memory.max", "8000\n")],
                Some(8000),
            ),
            (
                "v1-without-proc",
                &[("sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n")],
                Some(9000),
            ),
        ];
        for (name, files, expected) in cases {
            check(MEMORY, name, files, *expected);
        }
    }

    #[test]
    fn tasks_are_those_that_may_be_added() {
        let cases: &[(&str, Files, Option<u64>)] = &[
            ("none", &[(GROUP, "0::/\n")], None),
            (
                "v2",
                &[
                    (GROUP, "0::/a\n"),
                    ("sys/fs/cgroup/a/pids.max", "100\n"),
                    ("sys/fs/cgroup/a/pids.current", "30\n"),
                    ("sys/fs/cgroup/pids.max", "max\n"),
                ],
                Some(70),
            ),
            (
                "v1",
                &[
                    (GROUP, "8:pids:/x\n0::/\n"),
                    ("sys/fs/cgroup/pids/x/pids.max", "64\n"),
                    ("sys/fs/cgroup/pids/x/pids.current", "65\n"),
                ],
                Some(0),
            ),
        ];
        for (name, files, expected) in cases {
            check(TASKS, name, files, *expected);
        }
    }

    #[test]
    fn processors_are_counted_in_thousandths() {
        let cases: &[(&str, Files, Option<u64>)] = &[
            (
                "v2",
                &[
                    (GROUP, "0::/a\n"),
                    ("sys/fs/cgroup/a/cpu.max", "50000 100000\n"),
                    ("sys/fs/cgroup/cpu.max", "max 100000\n"),
                ],
                Some(500),
            ),
            (
                "v2-max",
                &[(GROUP, "0::/\n"), ("sys/fs/cgroup/cpu.max", "max 100000\n")],
                None,
            ),
            (
                "v1",
                &[
                    (GROUP, "2:cpu,cpuacct:/x\n"),
                    ("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "150000\n"),
                    ("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n"),
                    ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                    ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ],
                Some(1500),
            ),
            (
                "no-period",
                &[
                    (GROUP, "1:cpu:/\n"),
                    ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n"),
                    ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "0\n"),
                ],
                None,
            ),
        ];
        for (name, files, expected) in cases {
            check(CPU, name, files, *expected);
        }
    }
}
