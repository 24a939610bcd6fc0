//! The repository as text: its files, and Rust source without what is not code.

use std::path::{Path, PathBuf};

pub(crate) struct File {
    /// From the root of the repository, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file that belongs to the repository, in order of path.
pub(crate) fn files() -> Vec<File> {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    paths.sort();
    let text_of = |path: PathBuf| {
        let text = String::from_utf8(std::fs::read(&path).ok()?).ok()?;
        let path = path.strip_prefix(root()).ok()?.to_str()?.to_owned();
        Some(File { path, text })
    };
    paths.into_iter().filter_map(text_of).collect()
}

/// The Rust files below the folders of our own code.
pub(crate) fn rust_files() -> Vec<File> {
    let ours = ["src/", "tests/", "fixtures/"];
    let is_ours = |path: &str| ours.iter().any(|folder| path.starts_with(folder));
    let mut all = files();
    all.retain(|file| file.path.ends_with(".rs") && is_ours(&file.path));
    assert!(all.len() > 50, "the repository was not found");
    all
}

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    const NOT_OURS: [&str; 4] = [".git", ".build", "node_modules", "__pycache__"];
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_file() {
            out.push(path);
        } else if kind.is_dir()
            && !NOT_OURS.iter().any(|name| entry.file_name() == *name)
            && !path.join("CACHEDIR.TAG").exists()
        {
            walk(&path, out);
        }
    }
}

/// Rust source in which comments and the insides of literals are blanks; lines stay in place.
pub(crate) fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped_end(bytes, at);
        if end > at {
            for byte in &mut out[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            at = end;
        } else {
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of the comment or literal that begins at `at`, or `at`.
fn skipped_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let in_word = at > 0 && is_word(bytes[at - 1]);
    match rest[0] {
        b'/' if rest.starts_with(b"//") => at + position(rest, b"\n"),
        b'/' if rest.starts_with(b"/*") => at + 2 + position(&rest[2..], b"*/") + 2,
        b'"' => string_end(bytes, at),
        b'r' if !in_word => raw_string_end(bytes, at, 1),
        b'b' if !in_word && rest.get(1) == Some(&b'r') => raw_string_end(bytes, at, 2),
        b'\'' => char_end(bytes, at),
        _ => at,
    }
    .min(bytes.len())
}

fn position(rest: &[u8], wanted: &[u8]) -> usize {
    let found = rest.windows(wanted.len()).position(|some| some == wanted);
    found.unwrap_or(rest.len())
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while next < bytes.len() && bytes[next] != b'"' {
        next += if bytes[next] == b'\\' { 2 } else { 1 };
    }
    next + 1
}

fn raw_string_end(bytes: &[u8], at: usize, prefix: usize) -> usize {
    let rest = &bytes[at + prefix..];
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    if rest.get(hashes) != Some(&b'"') {
        return at;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let inside = at + prefix + hashes + 1;
    inside + position(&bytes[inside..], &close) + close.len()
}

/// A character literal; a lifetime is left alone.
fn char_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => at + 3 + position(&bytes[(at + 3).min(bytes.len())..], b"'") + 1,
        Some(first) => {
            let width = match first {
                0..0x80 => 1,
                0..0xe0 => 2,
                0..0xf0 => 3,
                _ => 4,
            };
            match bytes.get(at + 1 + width) {
                Some(b'\'') => at + width + 2,
                _ => at,
            }
        }
        None => at,
    }
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `code` without items that exist in tests only.
pub(crate) fn product_code(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let rest = &out[start..];
        let end = match (rest.find('{'), rest.find(';')) {
            (Some(open), semicolon) if semicolon.is_none_or(|at| open < at) => {
                start + open + block_length(&rest[open..])
            }
            (_, Some(semicolon)) => start + semicolon + 1,
            _ => out.len(),
        };
        let blank: String = out[start..end]
            .chars()
            .map(|c| if c == '\n' { c } else { ' ' })
            .collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Bytes from an opening brace to the one that closes it.
pub(crate) fn block_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// Where `word` stands as a whole word.
pub(crate) fn word_positions(code: &str, word: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| *at == 0 || !is_word(bytes[at - 1]))
        .filter(|at| bytes.get(at + word.len()).is_none_or(|b| !is_word(*b)))
        .collect()
}

pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[test]
fn source_without_what_is_not_code() {
    let check = |text: &str, expect: &str| assert_eq!(code_of(text), expect, "{text}");
    check("a // b\nc /* d */ e", "a     \nc         e");
    check(r#"f("x\"y", 'z', '\'', '{')"#, "f(      ,    ,     ,    )");
    check(
        r##"g(r#"{"}"#, br"{", for_r"x")"##,
        "g(        ,      , for_r   )",
    );
    check(
        "fn h<'a>(b: &'a str) { 'é' }",
        "fn h<'a>(b: &'a str) {      }",
    );
    let tests = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}";
    let product = product_code(tests);
    assert!(product.contains("fn a") && product.contains("fn c") && !product.contains("fn b"));
    assert_eq!(product.matches('\n').count(), tests.matches('\n').count());
}

/// What of the official suite the gateway is known to fail: these lists may only get shorter.
#[test]
fn expected_failures_only_shrink() {
    let folder = "fixtures/conformance/expected-failures";
    let mut allowed = vec![
        (format!("{folder}.yaml"), 0),
        (format!("{folder}-stateless-over-session.yaml"), 2),
    ];
    for file in files() {
        if !file.path.starts_with(folder) {
            continue;
        }
        let entries = file.text.lines().filter(|l| l.trim().starts_with("- "));
        let entries = entries.count();
        let at = allowed.iter().position(|(path, _)| *path == file.path);
        let (path, most) = allowed.remove(at.unwrap_or_else(|| panic!("{} is new", file.path)));
        assert!(
            entries <= most,
            "{path} has {entries} entries, not at most {most}"
        );
    }
    assert!(allowed.is_empty(), "missing: {allowed:?}");
}
