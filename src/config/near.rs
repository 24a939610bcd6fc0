//! The known word nearest to a mistyped one.

/// Longer words are never compared: the work is quadratic and no key is that long.
const WORD_CHARS: usize = 64;

/// The nearest of `known`, if it is near enough to be meant: one edit in three characters.
/// An edit inserts, removes, replaces one character or swaps two neighbours.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The remedy for an unknown word: the nearest known one, or what `otherwise` says.
pub fn did_you_mean<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k str>,
    otherwise: &str,
) -> String {
    match nearest(word, known) {
        Some(candidate) => format!("did you mean \"{candidate}\"?"),
        None => otherwise.to_owned(),
    }
}

fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    if left.len().max(right.len()) > WORD_CHARS {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let replaced = above[j] + usize::from(a != b);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = above;
        above = row;
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_what_was_meant() {
        let known = ["command", "args", "env", "cwd", "tags", "port"];
        let check = |word: &str, expect: Option<&str>| {
            assert_eq!(nearest(word, known), expect, "{word}");
        };
        check("comand", Some("command"));
        check("Command", Some("command"));
        check("prot", Some("port"));
        check("tag", Some("tags"));
        check("arg", Some("args"));
        check("description", None);
        check("", None);
        check(&"c".repeat(500), None);
    }
}
