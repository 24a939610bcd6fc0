//! docs/troubleshooting.md is read by people who have a message before them: each message that it
//! names must be one that the gateway can say, word for word.

use crate::repo::{files, read};

/// Product code with its literals as one text, without what only the compiler sees.
fn sources() -> Vec<String> {
    let ours = |path: &str| {
        path.starts_with("src/") && path.ends_with(".rs") && !path.ends_with("_tests.rs")
    };
    let all = files().into_iter().filter(|file| ours(&file.path));
    all.map(|file| {
        let product = file.text.split("#[cfg(test)]\nmod tests").next();
        plain(product.unwrap_or_default())
    })
    .collect()
}

/// Texts that go on in the next line are joined, quotes in them are quotes.
fn plain(code: &str) -> String {
    let mut out = String::new();
    let mut lines = code.lines().peekable();
    while let Some(line) = lines.next() {
        match line.strip_suffix('\\') {
            Some(part) => {
                out.push_str(part);
                if let Some(next) = lines.peek_mut() {
                    *next = next.trim_start();
                }
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out.replace("\\\"", "\"")
        .replace("{{", "{")
        .replace("}}", "}")
}

/// The messages of the page: what is in backquotes in first columns and at the begin of items,
/// unless it is a command, a header or a key.
fn messages(page: &str) -> Vec<&str> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let first = rows.filter_map(|row| row.strip_prefix("| ")?.split(" |").next());
    let items = page.lines().filter(|line| line.starts_with("- `"));
    let texts = first.chain(items.map(|item| item.split(':').next().unwrap_or(item)));
    texts
        .flat_map(|text| text.split('`').skip(1).step_by(2))
        .collect()
}

/// Whether these pieces follow each other in one source, and closely: it is one message.
fn is_said(source: &str, pieces: &[&str]) -> bool {
    const APART_BYTES: usize = 300;
    source.match_indices(pieces[0]).any(|(at, first)| {
        let mut end = at + first.len();
        pieces[1..].iter().all(|piece| {
            let found = source[end..].find(piece);
            let near = found.filter(|distance| *distance < APART_BYTES);
            near.inspect(|distance| end += distance + piece.len())
                .is_some()
        })
    })
}

#[test]
fn each_message_is_one_that_is_said() {
    let sources = sources();
    let page = read("docs/troubleshooting.md");
    let messages = messages(&page);
    assert!(messages.len() > 40, "{messages:?}");
    let unknown: Vec<&&str> = messages
        .iter()
        .filter(|message| {
            let pieces = message.split("...").map(str::trim);
            let pieces: Vec<&str> = pieces.filter(|piece| piece.len() > 2).collect();
            assert!(!pieces.is_empty(), "{message}");
            !sources.iter().any(|source| is_said(source, &pieces))
        })
        .collect();
    assert!(unknown.is_empty(), "nothing says {unknown:#?}");
}
