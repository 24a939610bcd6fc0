//! Memory of this process, and what it may take: the lowest limit of its control groups, or else
//! the machine. Read from /proc and /sys at each call, because both may change while we run.

use std::path::{Path, PathBuf};

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub resident: u64,
    /// 0: not known.
    pub limit: u64,
}

/// As it is now.
pub fn now() -> Memory {
    let system = rustix::system::sysinfo();
    // The width of the number differs between machines.
    let machine = (system.totalram as f64 * f64::from(system.mem_unit)) as u64;
    Memory {
        resident: resident(),
        limit: group_limit(Path::new("/")).map_or(machine, |limit| limit.min(machine)),
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1);
    let pages: u64 = pages.and_then(|text| text.parse().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

/// The lowest limit that the groups of this process have; `root` is `/` but in tests.
fn group_limit(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    groups.lines().filter_map(|line| limit_of(root, line)).min()
}

/// One line of /proc/self/cgroup: `0::/path` (version 2) or `4:memory:/path` (version 1).
fn limit_of(root: &Path, line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let (mount, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        list if list.split(',').any(|name| name == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let mount = root.join(mount);
    // A limit above counts as much. In a container the path may be one of the host, which is
    // not seen there: then the mount itself is our group.
    let own = mount.join(path.trim_start_matches('/'));
    let folders = own
        .ancestors()
        .take_while(|folder| folder.starts_with(&mount));
    folders
        .filter_map(|folder| read_limit(&folder.join(file)))
        .min()
}

/// `max`, and what version 1 writes for it, are no limits.
fn read_limit(file: &PathBuf) -> Option<u64> {
    let bytes: u64 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (bytes < NO_LIMIT).then_some(bytes)
}

/// Version 1 writes the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::{group_limit, now};
    use std::path::{Path, PathBuf};

    /// Their paths and texts.
    type Files = &'static [(&'static str, &'static str)];

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Root {
            let own = format!("onemcp-memory-{}-{name}", std::process::id());
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

    #[test]
    fn the_lowest_limit_of_all_groups_counts() {
        const GROUP: &str = "proc/self/cgroup";
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
        ];
        for (name, files, expected) in cases {
            let root = Root::new(name, files);
            assert_eq!(group_limit(&root.0), *expected, "{name}");
        }
    }

    #[test]
    fn this_process_takes_some_of_what_there_is() {
        let memory = now();
        assert!(
            memory.resident > 0 && memory.resident < memory.limit,
            "{memory:?}"
        );
    }
}
