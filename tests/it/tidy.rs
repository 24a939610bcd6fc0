//! Rules about the source itself that neither the compiler nor clippy knows.

use std::collections::BTreeSet;
use std::process::Command;

use crate::repo::{
    File, block_length, code_of, files, is_word, line_of, product_code, read, root, rust_files,
    word_positions,
};

/// Outermost first: a module may use only itself and those after it.
const ORDER: [&str; 15] = [
    "cli", "gateway", "front", "auth", "relay", "upstream", "journal", "config", "secrets",
    "model", "mcp", "http", "net", "wire", "base",
];
const COLUMNS: usize = 100;
const FUNCTION_LINES: usize = 70;
const ARCHITECTURE_LINES: usize = 200;

/// Runs `rule` over files and fails with everything it found.
fn check(files: &[File], rule: impl Fn(&File, &mut Vec<String>)) {
    let mut found = Vec::new();
    for file in files {
        rule(file, &mut found);
    }
    assert!(
        found.is_empty(),
        "{} found:\n{}",
        found.len(),
        found.join("\n")
    );
}

fn at(file: &File, position: usize, what: &str) -> String {
    format!("{}:{}: {what}", file.path, line_of(&file.text, position))
}

/// The source of the product with comments, literals and tests blanked.
fn product() -> Vec<File> {
    let tests = test_files();
    let mut all = rust_files();
    all.retain(|file| file.path.starts_with("src/") && !tests.contains(&file.path));
    for file in &mut all {
        file.text = product_code(&code_of(&file.text));
    }
    all
}

/// All our Rust code with comments and literals blanked.
fn code() -> Vec<File> {
    let mut all = rust_files();
    for file in &mut all {
        file.text = code_of(&file.text);
    }
    all
}

fn source_code() -> Vec<File> {
    let mut all = code();
    all.retain(|file| file.path.starts_with("src/"));
    all
}

/// The rule for words that may stand in some files only.
fn only_in(homes: &[&str], words: &[&str]) {
    check(&product(), |file, found| {
        for word in words
            .iter()
            .filter(|_| !homes.contains(&file.path.as_str()))
        {
            for position in word_positions(&file.text, word) {
                found.push(at(
                    file,
                    position,
                    &format!("{word} belongs to {homes:?} only"),
                ));
            }
        }
    });
}

#[test]
fn modules_use_only_modules_to_their_right() {
    check(&source_code(), |file, found| {
        let module = module_of(&file.path);
        let own = ORDER.iter().position(|name| *name == module);
        for position in word_positions(&file.text, "crate") {
            let Some(path) = file.text[position..].strip_prefix("crate::") else {
                continue;
            };
            let used: String = path.chars().take_while(|c| is_word(*c as u8)).collect();
            let target = ORDER.iter().position(|name| *name == used);
            match (own, target) {
                (Some(own), Some(target)) if own <= target => {}
                _ => {
                    let what = format!("{module} uses {used}: not to its right in {ORDER:?}");
                    found.push(at(file, position, &what));
                }
            }
        }
    });
}

fn module_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split(['/', '.']).next().unwrap_or(inside)
}

/// So that the rule above sees every arrow.
#[test]
fn paths_are_written_out() {
    check(&source_code(), |file, found| {
        let flat: String = file.text.split_whitespace().collect();
        if flat.contains("usecrate::{") {
            found.push(format!(
                "{}: `use crate::{{` groups are not seen by tidy",
                file.path
            ));
        }
        if flat.contains("super::super") {
            found.push(format!("{}: `super::super` is not seen by tidy", file.path));
        }
        let is_root = file.path.ends_with("/mod.rs") && file.path.matches('/').count() == 2;
        for name in ORDER.iter().filter(|_| is_root) {
            if flat.contains(&format!("super::{name}")) {
                found.push(format!("{}: write `crate::{name}`", file.path));
            }
        }
        if file.path != "src/main.rs" && flat.contains("onemcp::") {
            found.push(format!("{}: write `crate::`, not `onemcp::`", file.path));
        }
    });
}

#[test]
fn unsafe_code_is_in_one_file() {
    check(&code(), |file, found| {
        for position in word_positions(&file.text, "unsafe") {
            if file.path != "src/base/sys.rs" {
                found.push(at(file, position, "unsafe belongs to src/base/sys.rs only"));
            }
        }
    });
}

#[test]
fn packages_with_sharp_edges_are_in_one_file() {
    only_in(&["src/gateway/health_socket.rs"], &["tiny_http"]);
    // It holds a verifier for looking only, which must serve nothing else.
    let tls = ["src/http/secure.rs", "src/http/tls.rs"];
    let store = ["src/net/certificate.rs", "src/net/redis/secure.rs"];
    only_in(&[&store[..], &tls[..]].concat(), &["rustls"]);
    check(&product(), |file, found| {
        let is_home = module_of(&file.path) == "net";
        if let (false, Some(position)) = (is_home, word_positions(&file.text, "ureq").first()) {
            found.push(at(file, *position, "ureq belongs to net"));
        }
    });
}

#[test]
fn threads_are_made_in_one_file() {
    let home = "src/base/thread.rs";
    check(&product(), |file, found| {
        let text = &file.text;
        if file.path == home {
            return;
        }
        for word in [
            "std::thread::spawn",
            "std::thread::scope",
            "thread::Builder",
        ] {
            for (position, _) in text.match_indices(word) {
                found.push(at(
                    file,
                    position,
                    "threads are made by base::thread::spawn",
                ));
            }
        }
        // After this, `thread::spawn` would be that of the standard library.
        for (position, _) in text.match_indices("use std::thread;") {
            found.push(at(
                file,
                position,
                "import base::thread, or one item of std::thread",
            ));
        }
        let flat: String = text.split_whitespace().collect();
        let hidden = flat.contains("usestd::{")
            || flat.split("usestd::thread::{").skip(1).any(|rest| {
                let names = rest.split('}').next().unwrap_or_default();
                names
                    .split(',')
                    .any(|name| name == "spawn" || name == "self")
            });
        if hidden {
            found.push(format!(
                "{}: threads are made by base::thread::spawn",
                file.path
            ));
        }
    });
}

#[test]
fn every_queue_has_a_bound() {
    check(&source_code(), |file, found| {
        for (position, _) in file.text.match_indices("unbounded") {
            found.push(at(file, position, "a queue without a bound"));
        }
        for (position, _) in file.text.match_indices("mpsc::channel") {
            found.push(at(file, position, "a queue without a bound"));
        }
    });
}

#[test]
fn pure_modules_do_no_io_and_read_no_clock() {
    const PURE: [&str; 3] = ["model", "mcp", "wire"];
    const IMPURE: [&str; 8] = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "Instant::now",
        "SystemTime",
        "crate::base::sys",
    ];
    check(&product(), |file, found| {
        for word in IMPURE
            .iter()
            .filter(|_| PURE.contains(&module_of(&file.path)))
        {
            for (position, _) in file.text.match_indices(word) {
                found.push(at(file, position, &format!("{word} in a pure module")));
            }
        }
    });
}

/// A revision is text at the edge only; everything else asks `mcp::revision`.
#[test]
fn revisions_are_compared_in_one_file() {
    const HOMES: [&str; 3] = [
        "src/mcp/era.rs",
        "src/mcp/revision.rs",
        "src/cli/demo_server.rs",
    ];
    const REVISIONS: [&str; 5] = [
        "\"2024-11-05\"",
        "\"2025-03-26\"",
        "\"2025-06-18\"",
        "\"2025-11-25\"",
        "\"2026-07-28\"",
    ];
    let product = product();
    let mut all = rust_files();
    all.retain(|file| product.iter().any(|known| known.path == file.path));
    check(&all, |file, found| {
        let tests = product_code(&code_of(&file.text));
        for word in REVISIONS
            .iter()
            .filter(|_| !HOMES.contains(&file.path.as_str()))
        {
            for (position, _) in file.text.match_indices(word) {
                let line = line_of(&file.text, position);
                let is_product = tests
                    .lines()
                    .nth(line - 1)
                    .is_some_and(|l| !l.trim().is_empty());
                if is_product {
                    found.push(at(file, position, "ask mcp::revision instead"));
                }
            }
        }
    });
}

#[test]
fn lines_are_short() {
    check(&rust_files(), |file, found| {
        for (index, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS {
                found.push(format!("{}:{}: {columns} columns", file.path, index + 1));
            }
        }
    });
}

/// Tables of test cases may be as long as there are cases.
#[test]
fn functions_are_short() {
    let mut all = product();
    all.extend(
        code()
            .into_iter()
            .filter(|file| file.path.starts_with("fixtures/")),
    );
    check(&all, |file, found| {
        for position in word_positions(&file.text, "fn") {
            let rest = &file.text[position..];
            let Some(name) = rest
                .split_whitespace()
                .nth(1)
                .filter(|n| is_word(n.as_bytes()[0]))
            else {
                continue;
            };
            let Some(open) = rest
                .find(['{', ';'])
                .filter(|at| rest.as_bytes()[*at] == b'{')
            else {
                continue;
            };
            let lines = rest[..open + block_length(&rest[open..])]
                .matches('\n')
                .count()
                + 1;
            if lines > FUNCTION_LINES {
                let name = name.split(['(', '<']).next().unwrap_or(name);
                found.push(at(file, position, &format!("fn {name} has {lines} lines")));
            }
        }
    });
}

#[test]
fn nothing_is_left_for_later() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ];
    check(&files(), |file, found| {
        for word in words
            .iter()
            .filter(|_| !file.path.ends_with("package-lock.json"))
        {
            for position in word_positions(&file.text, word) {
                found.push(at(file, position, "write an issue instead"));
            }
        }
    });
    check(&code(), |file, found| {
        for word in [
            concat!("to", "do!"),
            concat!("un", "implemented!"),
            concat!("db", "g!"),
        ] {
            for (position, _) in file.text.match_indices(word) {
                found.push(at(file, position, word));
            }
        }
    });
}

#[test]
fn lints_are_not_switched_off() {
    check(&code(), |file, found| {
        for word in ["#[allow", "#![allow"] {
            for (position, _) in file.text.match_indices(word) {
                found.push(at(file, position, "use #[expect(.., reason = \"..\")]"));
            }
        }
    });
}

#[test]
fn nothing_is_async() {
    check(&source_code(), |file, found| {
        for word in ["async", "await"] {
            for position in word_positions(&file.text, word) {
                found.push(at(file, position, word));
            }
        }
    });
}

#[test]
fn no_async_runtime_is_in_the_tree() {
    const RUNTIMES: [&str; 12] = [
        "tokio",
        "async-std",
        "smol",
        "mio",
        "futures-executor",
        "async-io",
        "async-executor",
        "hyper",
        "polling",
        "glommio",
        "monoio",
        "actix-rt",
    ];
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {problem}");
    let tree = String::from_utf8(output.stdout).unwrap();
    let mut names: BTreeSet<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
    assert!(names.contains("crossbeam-channel"), "{tree}");
    // Of every platform and feature, which cargo tree does not show.
    let lock = read("Cargo.lock");
    let locked = lock
        .lines()
        .filter_map(|line| line.strip_prefix("name = \""));
    names.extend(locked.filter_map(|name| name.strip_suffix('"')));
    let found: Vec<&&str> = RUNTIMES
        .iter()
        .filter(|name| names.contains(**name))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

/// Files that are compiled, and whether only for tests.
fn declared_files() -> Vec<(String, bool)> {
    let mut open = Vec::new();
    for folder in ["", "fixtures/laws/", "fixtures/loom/"] {
        let manifest = read(&format!("{folder}Cargo.toml"));
        let roots = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("path = \""));
        let roots = roots.map(|rest| format!("{folder}{}", rest.trim_end_matches('"')));
        open.extend(roots.map(|path| (path, false)));
    }
    open.push(("src/lib.rs".to_owned(), false));
    let mut known = Vec::new();
    while let Some((path, is_test)) = open.pop() {
        let text = read(&path);
        let code = code_of(&text);
        let product = product_code(&code);
        for position in word_positions(&code, "mod") {
            let rest = code[position + "mod".len()..].trim_start();
            let name: String = rest.chars().take_while(|c| is_word(*c as u8)).collect();
            if !rest[name.len()..].starts_with(';') {
                continue;
            }
            let is_test = is_test || !product[position..].starts_with("mod");
            open.push((declared_path(&path, &text, position, &name), is_test));
        }
        known.push((path, is_test));
    }
    known
}

fn declared_path(parent: &str, text: &str, position: usize, name: &str) -> String {
    let (folder, file) = parent.rsplit_once('/').unwrap();
    let before = text[..position].trim_end();
    let before = before.strip_suffix("pub(crate)").unwrap_or(before);
    let line_before = before.trim_end().lines().last().unwrap_or_default();
    let given = line_before.trim().strip_prefix("#[path = \"");
    if let Some(given) = given.and_then(|rest| rest.strip_suffix("\"]")) {
        return format!("{folder}/{given}");
    }
    let folder = match file {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => parent.trim_end_matches(".rs").to_owned(),
    };
    let flat = format!("{folder}/{name}.rs");
    match root().join(&flat).exists() {
        true => flat,
        false => format!("{folder}/{name}/mod.rs"),
    }
}

fn test_files() -> BTreeSet<String> {
    let declared = declared_files().into_iter();
    declared
        .filter(|(_, is_test)| *is_test)
        .map(|(path, _)| path)
        .collect()
}

#[test]
fn every_file_is_compiled() {
    let declared: BTreeSet<String> = declared_files().into_iter().map(|(path, _)| path).collect();
    check(&rust_files(), |file, found| {
        if !declared.contains(&file.path) {
            found.push(format!("{}: no `mod` declares it", file.path));
        }
    });
}

#[test]
fn no_path_of_a_build_machine_is_written_down() {
    let here = format!("{}/", root().display());
    let homes = [
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/home/", "user/"),
    ];
    check(&files(), |file, found| {
        let own = Some(here.as_str()).filter(|path| path.matches('/').count() > 2);
        for path in homes.iter().copied().chain(own) {
            for (position, _) in file.text.match_indices(path) {
                found.push(at(file, position, "the path of one machine"));
            }
        }
    });
}

#[test]
fn architecture_is_short_and_names_tests_that_exist() {
    let text = read("ARCHITECTURE.md");
    let lines = text.lines().count();
    assert!(
        lines <= ARCHITECTURE_LINES,
        "ARCHITECTURE.md has {lines} lines"
    );
    let tests = test_functions();
    let invariants = text
        .split("\n## ")
        .find(|part| part.starts_with("Invariants"))
        .unwrap();
    let mut named = 0;
    for item in invariants.split("\n- ").skip(1) {
        let tested = item
            .split("Tests:")
            .nth(1)
            .unwrap_or_else(|| panic!("no test: {item}"));
        for path in tested.split('`').skip(1).step_by(2) {
            let known =
                tests.contains(path) || path.starts_with("scripts/") && root().join(path).is_file();
            assert!(known, "ARCHITECTURE.md names no test of ours: {path}");
            named += 1;
        }
    }
    assert!(named > 0, "no invariant names a test");
}

/// Test functions as `file::name`, the file from the root without `src/`, `tests/` and `.rs`.
fn test_functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in code() {
        let home = file
            .path
            .trim_start_matches("src/")
            .trim_start_matches("tests/");
        let home = home.trim_end_matches(".rs");
        for (position, mark) in file.text.match_indices("#[test]") {
            let rest = &file.text[position + mark.len()..];
            let Some(start) = rest.find("fn ") else {
                continue;
            };
            let name = rest[start + 3..]
                .split(['(', '<'])
                .next()
                .unwrap_or_default();
            names.insert(format!("{home}::{name}"));
        }
    }
    names
}
