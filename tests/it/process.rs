//! No orphan, no zombie: servers and everything they start end with their owner.
//!
//! Everyone of a test carries its mark in the environment, so it is found wherever it hides.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use onemcp::base::family;
use onemcp::upstream::process::Exit;
use onemcp::upstream::process::Graces;
use onemcp::upstream::process::Process;
use onemcp::upstream::process::Spec;
use rustix::process::Pid;
use rustix::process::Signal;

const SHORT: Graces = Graces {
    eof: Duration::from_millis(200),
    term: Duration::from_millis(400),
};
/// Ignores TERM and end of input, and holds stdout and stderr.
const STUBBORN: &str = "trap '' TERM HUP INT; while :; do sleep 1000; done";

/// A name that only the processes of one test carry.
struct Mark(String);

impl Mark {
    fn new() -> Mark {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Mark(format!("mark-{}-{count}", std::process::id()))
    }

    /// Living processes with this mark.
    fn bearers(&self) -> Vec<i32> {
        let entry = format!("MARK={}", self.0).into_bytes();
        let bears = |pid: i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|text| text == entry)
        };
        let table = family::processes();
        let living = table.iter().filter(|member| !member.dead);
        living
            .map(|member| member.pid)
            .filter(|pid| bears(*pid))
            .collect()
    }

    fn spec(&self, script: &str) -> Spec {
        Spec {
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("PATH".into(), path()), ("MARK".into(), self.0.clone())],
            cwd: None,
        }
    }

    fn start(&self, script: &str) -> Process {
        Process::spawn(&self.spec(script)).unwrap()
    }

    fn await_bearers(&self, count: usize) {
        let seen = eventually(Duration::from_secs(10), || self.bearers().len() == count);
        assert!(
            seen,
            "{} processes instead of {count}",
            self.bearers().len()
        );
    }
}

impl Drop for Mark {
    /// A failed test leaves nothing behind either.
    fn drop(&mut self) {
        for pid in self.bearers() {
            kill(pid, Signal::KILL);
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn path() -> String {
    std::env::var("PATH").unwrap()
}

fn kill(pid: i32, signal: Signal) {
    let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// Asks again and again, because the process table has no events.
fn eventually(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    holds()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn first_line(process: &mut Process) -> String {
    let mut line = String::new();
    let mut reader = BufReader::new(process.take_stdout().unwrap());
    reader.read_line(&mut line).unwrap();
    line
}

fn output(spec: &Spec) -> String {
    let mut process = Process::spawn(spec).unwrap();
    let mut text = String::new();
    process
        .take_stdout()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(
        process.wait_exit(soon()),
        Some(Exit {
            code: Some(0),
            signal: None
        })
    );
    text
}

/// The fixture that owns servers as the gateway does.
struct Spawner {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

fn spawner_binary() -> PathBuf {
    let directory = std::env::current_exe().unwrap();
    let file = directory
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/spawner");
    assert!(
        file.exists(),
        "build it first: cargo build --examples ({})",
        file.display()
    );
    file
}

impl Spawner {
    fn start(mut command: Command, mark: &Mark) -> Spawner {
        command
            .env("MARK", &mark.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Spawner {
            child,
            orders,
            answers,
        }
    }

    fn hold(mark: &Mark, script: &str) -> Spawner {
        let mut command = Command::new(spawner_binary());
        command.args(["hold", script]);
        Spawner::start(command, mark)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ask(&mut self, order: &str) -> String {
        writeln!(self.orders.as_ref().unwrap(), "{order}").unwrap();
        self.answer()
    }

    fn ready(&mut self) -> i32 {
        self.answer()
            .strip_prefix("ready ")
            .unwrap()
            .parse()
            .unwrap()
    }

    fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// How many of spawner and watcher show their environment: they are not dumpable, so only
    /// root may look. Whoever else does sees the servers alone.
    fn readable(&self) -> usize {
        match fs::read(format!("/proc/{}/environ", self.pid())) {
            Ok(environ) if !environ.is_empty() => 2,
            _ => 0,
        }
    }

    /// Ends it in order; gives its exit code.
    fn finish(mut self) -> Option<i32> {
        self.orders = None;
        self.child.wait().unwrap().code()
    }
}

#[test]
fn death_of_the_leader_ends_its_children() {
    let mark = Mark::new();
    let mut process = mark.start("sleep 1000 & (sleep 1000 &) ; wait");
    mark.await_bearers(3);
    assert_eq!(process.try_exit(), None);
    kill(process.pid(), Signal::KILL);
    let exit = process.wait_exit(soon()).unwrap();
    assert_eq!(exit.to_string(), "was killed by signal 9 (SIGKILL)");
    mark.await_bearers(0);
}

#[test]
fn exit_of_the_leader_ends_a_grandchild_that_holds_the_pipes() {
    let mark = Mark::new();
    let mut process = mark.start(&format!("({STUBBORN}) & read line; exit 3"));
    let mut stdout = process.take_stdout().unwrap();
    let mut stderr = process.take_stderr().unwrap();
    let readers = [
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new())),
        std::thread::spawn(move || stderr.read_to_end(&mut Vec::new())),
    ];
    mark.await_bearers(3);
    drop(process.take_stdin());
    let exit = process.wait_exit(soon()).unwrap();
    assert_eq!(exit.to_string(), "exited with code 3");
    for reader in readers {
        reader.join().unwrap().unwrap();
    }
    mark.await_bearers(0);
}

#[test]
fn drop_ends_the_whole_family() {
    let mark = Mark::new();
    let process = mark.start(&format!("({STUBBORN}) & ({STUBBORN}) & {STUBBORN}"));
    mark.await_bearers(6);
    drop(process);
    mark.await_bearers(0);
}

#[test]
fn end_of_input_is_enough_for_a_polite_server() {
    let mark = Mark::new();
    let mut process = mark.start("cat; exit 4");
    let begun = Instant::now();
    let graces = Graces {
        eof: Duration::from_secs(10),
        term: Duration::from_secs(10),
    };
    assert_eq!(
        process.stop(graces),
        Exit {
            code: Some(4),
            signal: None
        }
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(
        process.stop(graces),
        Exit {
            code: Some(4),
            signal: None
        }
    );
}

#[test]
fn term_comes_after_the_first_grace() {
    let mark = Mark::new();
    let mut process = mark.start("trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done");
    assert_eq!(first_line(&mut process), "up\n");
    let begun = Instant::now();
    let graces = Graces {
        term: Duration::from_secs(10),
        ..SHORT
    };
    assert_eq!(
        process.stop(graces),
        Exit {
            code: Some(5),
            signal: None
        }
    );
    assert!(begun.elapsed() >= graces.eof && begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn kill_comes_after_the_second_grace() {
    let mark = Mark::new();
    let mut process = mark.start(&format!("echo up; {STUBBORN}"));
    assert_eq!(first_line(&mut process), "up\n");
    let begun = Instant::now();
    assert_eq!(
        process.stop(SHORT),
        Exit {
            code: None,
            signal: Some(9)
        }
    );
    assert!(begun.elapsed() >= SHORT.eof + SHORT.term);
    mark.await_bearers(0);
}

#[test]
fn a_grandchild_may_use_the_grace_after_its_leader_is_gone() {
    let mark = Mark::new();
    let file = std::env::temp_dir().join(&mark.0);
    let slow = format!(
        "trap 'sleep 0.2; echo saved > {}; exit' TERM",
        file.display()
    );
    let mut process = mark.start(&format!(
        "({slow}; echo up; while :; do sleep 0.05; done) & wait"
    ));
    assert_eq!(first_line(&mut process), "up\n");
    process.stop(Graces {
        term: Duration::from_secs(10),
        ..SHORT
    });
    assert_eq!(fs::read_to_string(&file).unwrap(), "saved\n");
    fs::remove_file(&file).unwrap();
    mark.await_bearers(0);
}

#[test]
fn a_stopped_process_is_woken_to_take_term() {
    let mark = Mark::new();
    let mut process = mark.start("trap 'exit 6' TERM; echo up; while :; do sleep 0.05; done");
    assert_eq!(first_line(&mut process), "up\n");
    kill(process.pid(), Signal::STOP);
    let graces = Graces {
        term: Duration::from_secs(10),
        ..SHORT
    };
    assert_eq!(
        process.stop(graces),
        Exit {
            code: Some(6),
            signal: None
        }
    );
}

#[test]
fn stop_reaches_a_grandchild_that_left_the_group() {
    let mark = Mark::new();
    let mut process = mark.start(&format!("setsid sh -c \"{STUBBORN}\" & {STUBBORN}"));
    mark.await_bearers(4);
    process.stop(SHORT);
    mark.await_bearers(0);
}

#[test]
fn who_left_the_group_is_remembered_when_the_leader_is_killed() {
    let mark = Mark::new();
    let script = format!("setsid sh -c \"exec <&- >&- 2>&-; {STUBBORN}\" & wait");
    let mut process = mark.start(&script);
    mark.await_bearers(3);
    process.observe();
    kill(process.pid(), Signal::KILL);
    assert!(process.wait_exit(soon()).is_some());
    mark.await_bearers(0);
}

#[test]
fn wait_ends_at_its_deadline() {
    let mark = Mark::new();
    let mut process = mark.start("cat");
    let begun = Instant::now();
    assert_eq!(process.wait_exit(begun + Duration::from_millis(100)), None);
    assert!(begun.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_full_pipe_does_not_block_the_writer() {
    let mark = Mark::new();
    let mut process = mark.start("sleep 1000");
    let mut stdin = process.take_stdin().unwrap();
    let error = stdin.write_all(&[b'x'; 1 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_server_sees_its_own_environment_only() {
    let env = vec![
        ("PATH".to_owned(), path()),
        ("ONE".to_owned(), "1 = one".to_owned()),
    ];
    let spec = Spec {
        program: "env".into(),
        env,
        ..Spec::default()
    };
    let text = output(&spec);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["ONE=1 = one", &format!("PATH={}", path())]);
}

#[test]
fn a_server_inherits_no_open_file() {
    let leak = fs::File::open("/dev/null").unwrap();
    let leaked = rustix::io::dup(leak.as_fd()).unwrap();
    let args = vec!["/proc/self/fd".to_owned()];
    let env = vec![("PATH".to_owned(), path())];
    let spec = Spec {
        program: "ls".into(),
        args,
        env,
        cwd: None,
    };
    let text = output(&spec);
    drop(leaked);
    // The fourth is the directory that ls reads.
    assert_eq!(text.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn a_server_starts_with_default_signals() {
    let args = vec!["/proc/self/status".to_owned()];
    let env = vec![("PATH".to_owned(), path())];
    let text = output(&Spec {
        program: "cat".into(),
        args,
        env,
        cwd: Some("/".into()),
    });
    let mask = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0);
    assert_eq!(mask("SigIgn:") & (1 << (13 - 1)), 0, "SIGPIPE is ignored");
}

fn refusal(program: &str, path: &str, cwd: Option<PathBuf>) -> String {
    let env = vec![("PATH".to_owned(), path.to_owned())];
    let spec = Spec {
        program: program.into(),
        args: vec![],
        env,
        cwd,
    };
    Process::spawn(&spec).unwrap_err().to_string()
}

#[test]
fn a_refusal_names_cause_and_remedy() {
    let text = refusal("no-such-program", "/usr/bin:/bin", None);
    assert!(
        text.starts_with("cannot start \"no-such-program\": not found on PATH"),
        "{text}"
    );
    assert!(text.contains("/usr/bin:/bin"), "{text}");
    // Only the server's own PATH counts.
    assert!(refusal("sh", "/nowhere", None).contains("not found on PATH"));
    assert!(refusal("/no/such/file", "", None).contains("there is no file /no/such/file"));
    assert!(refusal("", "", None).contains("the name is empty"));
    let text = refusal("sh", "/bin:/usr/bin", Some("/no/such/directory".into()));
    assert!(
        text.contains("/no/such/directory") && text.contains("\"cwd\""),
        "{text}"
    );
    let text = refusal("sh", "/bin:/usr/bin", Some("/dev/null".into()));
    assert!(text.contains("not a directory"), "{text}");
}

#[test]
fn a_refused_file_is_told_apart_from_a_missing_one() {
    use std::os::unix::fs::PermissionsExt;
    let mark = Mark::new();
    let directory = std::env::temp_dir().join(&mark.0);
    fs::create_dir(&directory).unwrap();
    let file = directory.join("server");
    fs::write(&file, "#!/no/such/interpreter -x\n").unwrap();
    let path = directory.to_str().unwrap();
    assert!(refusal("server", path, None).contains("chmod +x"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(refusal("server", path, None).contains("/no/such/interpreter"));
    assert!(refusal("./server", "", Some(directory.clone())).contains("/no/such/interpreter"));
    fs::write(&file, "#!/bin/sh\nexit 0\n").unwrap();
    assert_eq!(
        output(&Spec {
            program: "./server".into(),
            cwd: Some(directory.clone()),
            ..Spec::default()
        }),
        ""
    );
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_bad_variable_is_named_and_its_value_is_not() {
    let mut spec = Mark::new().spec("exit 0");
    spec.env.push(("A=B".into(), "secret".into()));
    let text = Process::spawn(&spec).unwrap_err().to_string();
    assert!(
        text.contains("\"A=B\"") && !text.contains("secret"),
        "{text}"
    );
}

#[test]
fn a_hundred_starts_and_stops_leave_no_zombie_and_no_open_file() {
    let mark = Mark::new();
    let mut command = Command::new(spawner_binary());
    command.args(["cycle", "100"]);
    let mut spawner = Spawner::start(command, &mark);
    assert_eq!(spawner.answer(), "zombies=0 files=0");
    assert_eq!(spawner.finish(), Some(7));
    mark.await_bearers(0);
}

#[test]
fn the_reaper_waits_for_orphans_and_leaves_the_server_to_its_owner() {
    let mark = Mark::new();
    let script = "for i in 1 2 3 4 5; do (setsid sh -c 'exit 1' &); done; cat; exit 9";
    let mut spawner = Spawner::hold(&mark, script);
    spawner.ready();
    let pid = spawner.pid();
    let clean = || {
        !family::processes()
            .iter()
            .any(|member| member.parent == pid && member.dead)
    };
    assert!(eventually(Duration::from_secs(5), clean));
    assert_eq!(spawner.ask("stop"), "exited with code 9");
    assert!(eventually(Duration::from_secs(5), clean));
    assert_eq!(spawner.finish(), Some(7));
}

#[test]
fn a_stray_that_holds_a_pipe_ends_with_its_server() {
    let mark = Mark::new();
    // Its parent is gone at once, and its group is its own: only the pipe tells whose it is.
    let mut spawner = Spawner::hold(&mark, &format!("(setsid sh -c \"{STUBBORN}\" &); cat"));
    let leader = spawner.ready();
    let pid = spawner.pid();
    let is_stray = || {
        let bearers = mark.bearers();
        let table = family::processes();
        let stray = |pid_of_it: i32, parent: i32| pid_of_it != leader && parent == pid;
        table
            .iter()
            .any(|m| bearers.contains(&m.pid) && stray(m.pid, m.parent) && m.group == m.pid)
    };
    assert!(eventually(Duration::from_secs(5), is_stray));
    kill(leader, Signal::KILL);
    assert_eq!(spawner.ask("wait"), "was killed by signal 9 (SIGKILL)");
    let only_spawner = || mark.bearers().iter().all(|bearer| is_spawner(*bearer));
    assert!(eventually(Duration::from_secs(5), only_spawner));
    assert_eq!(spawner.finish(), Some(7));
    mark.await_bearers(0);
}

/// A daemon that cut all ties: its own session, no parent, no open file, another environment.
/// It is known by how long it sleeps.
struct Daemon(String);

impl Daemon {
    fn new() -> Daemon {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Daemon(format!("1{:07}{count}", std::process::id()))
    }

    fn script(&self) -> String {
        let sleep = format!("exec <&- >&- 2>&-; exec env -i /bin/sleep {}", self.0);
        format!("(setsid sh -c '{sleep}' &); cat")
    }

    fn pid(&self) -> Option<i32> {
        let command = format!("/bin/sleep\0{}\0", self.0).into_bytes();
        let runs = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == command);
        let table = family::processes();
        table.iter().map(|member| member.pid).find(runs)
    }

    fn await_start(&self) {
        assert!(eventually(Duration::from_secs(10), || self.pid().is_some()));
    }

    fn await_end(&self) {
        assert!(eventually(Duration::from_secs(10), || self.pid().is_none()));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            kill(pid, Signal::KILL);
        }
    }
}

#[test]
fn a_daemon_that_cut_all_ties_ends_with_its_server() {
    for end in ["stop", "wait"] {
        let (mark, daemon) = (Mark::new(), Daemon::new());
        let mut spawner = Spawner::hold(&mark, &daemon.script());
        let leader = spawner.ready();
        daemon.await_start();
        if end == "wait" {
            kill(leader, Signal::KILL);
        }
        spawner.ask(end);
        assert_eq!(daemon.pid(), None, "{end}");
        assert_eq!(spawner.finish(), Some(7));
        mark.await_bearers(0);
    }
}

#[test]
fn a_daemon_that_cut_all_ties_does_not_survive_sigkill_of_the_owner() {
    let (mark, daemon) = (Mark::new(), Daemon::new());
    let mut spawner = Spawner::hold(&mark, &daemon.script());
    spawner.ready();
    daemon.await_start();
    kill(spawner.pid(), Signal::KILL);
    spawner.child.wait().unwrap();
    daemon.await_end();
    mark.await_bearers(0);
}

#[test]
fn a_server_leaves_the_daemons_of_others_alone() {
    let (mark, daemon) = (Mark::new(), Daemon::new());
    let mut spawner = Spawner::hold(&mark, &daemon.script());
    spawner.ready();
    daemon.await_start();
    let (other_mark, other) = (Mark::new(), Daemon::new());
    let mut second = Spawner::hold(&other_mark, &other.script());
    second.ready();
    other.await_start();
    kill(spawner.pid(), Signal::KILL);
    spawner.child.wait().unwrap();
    daemon.await_end();
    mark.await_bearers(0);
    assert!(other.pid().is_some());
    assert_eq!(second.finish(), Some(7));
    assert_eq!(other.pid(), None);
}

fn is_spawner(pid: i32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    matches!(
        name.trim_end(),
        "spawner" | "onemcp-watch" | "onemcp-init" | ""
    )
}

#[test]
fn an_orderly_end_takes_daemons_along() {
    let mark = Mark::new();
    let daemon = format!("(setsid sh -c \"exec <&- >&- 2>&-; {STUBBORN}\" &); cat");
    let mut spawner = Spawner::hold(&mark, &daemon);
    spawner.ready();
    mark.await_bearers(4 + spawner.readable());
    assert_eq!(spawner.ask("stop"), "exited with code 0");
    assert_eq!(spawner.finish(), Some(7));
    mark.await_bearers(0);
}

#[test]
fn sigkill_of_the_owner_leaves_nothing() {
    let mark = Mark::new();
    let script = format!("({STUBBORN}) & setsid sh -c \"{STUBBORN}\" & {STUBBORN}");
    let mut spawner = Spawner::hold(&mark, &script);
    spawner.ready();
    // Three shells and three sleeps.
    mark.await_bearers(6 + spawner.readable());
    let begun = Instant::now();
    kill(spawner.pid(), Signal::KILL);
    spawner.child.wait().unwrap();
    assert!(eventually(Duration::from_secs(10), || mark
        .bearers()
        .is_empty()));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// The leader ends with its parent, perhaps before anybody looked at it or at whom it started.
#[test]
fn sigkill_of_the_owner_in_the_start_of_a_server_leaves_nothing() {
    let mark = Mark::new();
    let script = "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do setsid sleep 1000 & done; exec cat";
    for moment_ms in 0..30 {
        let mut spawner = Spawner::hold(&mark, script);
        spawner.ready();
        std::thread::sleep(Duration::from_millis(moment_ms));
        kill(spawner.pid(), Signal::KILL);
        spawner.child.wait().unwrap();
    }
    assert!(eventually(Duration::from_secs(10), || mark
        .bearers()
        .is_empty()));
}

#[test]
fn the_watcher_survives_what_is_meant_for_the_gateway_and_goes_home_with_it() {
    let mark = Mark::new();
    let mut spawner = Spawner::hold(&mark, "cat");
    spawner.ready();
    let parent = spawner.pid();
    let is_watcher = |pid: i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "onemcp-watch\n")
    };
    let mut watcher = 0;
    assert!(eventually(Duration::from_secs(5), || {
        let table = family::processes();
        let found = table
            .iter()
            .find(|member| member.parent == parent && is_watcher(member.pid));
        watcher = found.map_or(0, |member| member.pid);
        let files = fs::read_dir(format!("/proc/{watcher}/fd"));
        // stdin, stdout, stderr and the pipe, if we may look
        watcher > 0 && files.map_or(!is_root(), |files| files.count() == 4)
    }));
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill(watcher, signal);
    }
    assert_eq!(spawner.ask("stop"), "exited with code 0");
    assert!(is_watcher(watcher));
    assert_eq!(spawner.finish(), Some(7));
    mark.await_bearers(0);
}

fn as_pid_1(script: &str) -> Option<Command> {
    let flags = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let mut probe = Command::new("unshare");
    probe.args(flags).arg("true").stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("skipped: a new process namespace is not permitted here");
        return None;
    }
    let mut command = Command::new("unshare");
    command
        .args(flags)
        .arg(spawner_binary())
        .args(["hold", script]);
    Some(command)
}

/// The process under `unshare` that became init.
fn init_of(unshare: i32) -> i32 {
    let table = family::processes();
    table
        .iter()
        .find(|member| member.parent == unshare)
        .unwrap()
        .pid
}

fn child_named(parent: i32, name: &str) -> i32 {
    let is_named = |pid: i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let table = family::processes();
    table
        .iter()
        .find(|member| member.parent == parent && is_named(member.pid))
        .unwrap()
        .pid
}

#[test]
fn as_pid_1_it_leaves_with_the_status_of_the_gateway() {
    let mark = Mark::new();
    let Some(command) = as_pid_1(&format!("(setsid sh -c \"{STUBBORN}\" &); cat")) else {
        return;
    };
    let mut spawner = Spawner::start(command, &mark);
    spawner.ready();
    assert_eq!(spawner.ask("stop"), "exited with code 0");
    assert_eq!(spawner.finish(), Some(7));
    mark.await_bearers(0);
}

#[test]
fn as_pid_1_it_hands_term_on_and_ends_what_is_left() {
    let mark = Mark::new();
    let Some(command) = as_pid_1(&format!("(setsid sh -c \"{STUBBORN}\" &); {STUBBORN}")) else {
        return;
    };
    let mut spawner = Spawner::start(command, &mark);
    spawner.ready();
    let init = init_of(spawner.pid());
    let begun = Instant::now();
    // The fixture does not catch TERM, so it ends by it.
    kill(init, Signal::TERM);
    assert_eq!(spawner.finish(), Some(128 + 15));
    assert!(begun.elapsed() < Duration::from_secs(8));
    mark.await_bearers(0);
}

#[test]
fn as_pid_1_it_survives_the_gateway_only_to_clean_up() {
    let mark = Mark::new();
    let Some(command) = as_pid_1(&format!("({STUBBORN}) & {STUBBORN}")) else {
        return;
    };
    let mut spawner = Spawner::start(command, &mark);
    spawner.ready();
    kill(child_named(init_of(spawner.pid()), "spawner"), Signal::KILL);
    assert_eq!(spawner.finish(), Some(128 + 9));
    mark.await_bearers(0);
}
