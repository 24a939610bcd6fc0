//! Memory of this process, and what it may take: the lowest limit of its control groups, or else
//! the machine. Read from /proc and /sys at each call, because both may change while we run.

use std::path::Path;

use crate::base::group;

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
        limit: group::lowest(Path::new("/"), group::MEMORY)
            .map_or(machine, |limit| limit.min(machine)),
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1);
    let pages: u64 = pages.and_then(|text| text.parse().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn this_process_takes_some_of_what_there_is() {
        let memory = now();
        assert!(
            memory.resident > 0 && memory.resident < memory.limit,
            "{memory:?}"
        );
    }
}
