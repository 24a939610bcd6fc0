//! Secrets from the environment: `NAME`, or `NAME_FILE` with the path of a file, for a name as it
//! is and in capitals (`api-key`: `API_KEY`). Variables of the gateway itself are none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::secrets::answer::Answer;
use crate::secrets::{directory, name};

/// Those that decide over this name, in their order.
fn candidates(secret: &str) -> Vec<String> {
    let capitals = name::variable(secret);
    let mut bases = vec![capitals];
    let is_variable = secret
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_variable && bases[0] != secret {
        bases.insert(0, secret.to_owned());
    }
    bases.retain(|base| !base.starts_with("ONE_MCP_"));
    bases
}

pub fn ask(variables: &BTreeMap<String, String>, folder: &Path, secret: &str) -> Answer {
    let bases = candidates(secret);
    for base in &bases {
        if let Some(value) = given(variables, base) {
            return match directory::check(value) {
                Ok(()) => Answer::Found(value.to_owned()),
                Err(why) => Answer::Trouble(format!("{base}: {why}")),
            };
        }
        if let Some(path) = given(variables, &format!("{base}_FILE")) {
            return match directory::read(&folder.join(path)) {
                Ok(value) => Answer::Found(value),
                Err(why) => Answer::Trouble(format!("file of {base}_FILE: {why}")),
            };
        }
    }
    match bases.last() {
        Some(base) => Answer::Absent(format!("neither {base} nor {base}_FILE is set")),
        None => Answer::Absent("variables of the gateway are no secrets".into()),
    }
}

/// The file whose content would be the secret.
pub fn file(variables: &BTreeMap<String, String>, folder: &Path, secret: &str) -> Option<PathBuf> {
    let bases = candidates(secret);
    let mut paths = bases.iter().filter_map(|base| {
        let path = given(variables, &format!("{base}_FILE"))?;
        Some(folder.join(path))
    });
    paths.next()
}

/// An empty variable counts as one that is not set, as Compose files leave them.
fn given<'v>(variables: &'v BTreeMap<String, String>, name: &str) -> Option<&'v str> {
    let value = variables.get(name).map(String::as_str);
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{ask, file};
    use crate::secrets::answer::Answer;
    use crate::secrets::store::testing::{Folder, variables};

    #[test]
    fn names_are_looked_up_as_they_are_and_in_capitals() {
        let folder = Folder::new("variable");
        std::fs::write(folder.path("password"), "from the file\n").unwrap();
        let all = variables(&[
            ("API_KEY", "capitals"),
            ("token", "small"),
            ("TOKEN", "large"),
            ("DB_PASSWORD_FILE", "password"),
            ("BOTH", "value"),
            ("BOTH_FILE", "password"),
            ("EMPTY", ""),
            ("GONE_FILE", "nowhere"),
            ("ONE_MCP_SECRETS_KEY", "the key itself"),
        ]);
        let check = |name: &str, expect: &str| {
            let answer = ask(&all, &folder.0, name);
            assert_eq!(answer, Answer::Found(expect.into()), "{name}");
        };
        check("api-key", "capitals");
        check("API_KEY", "capitals");
        check("token", "small");
        check("TOKEN", "large");
        check("db.password", "from the file");
        check("both", "value");
        let absent = |name: &str| {
            let answer = ask(&all, &folder.0, name);
            assert!(matches!(answer, Answer::Absent(_)), "{name}: {answer:?}");
        };
        absent("empty");
        absent("nothing");
        absent("ONE_MCP_SECRETS_KEY");
        absent("one-mcp-secrets-key");
        let gone = ask(&all, &folder.0, "gone");
        assert!(matches!(gone, Answer::Trouble(_)), "{gone:?}");
        let watched = file(&all, &folder.0, "db.password");
        assert_eq!(watched, Some(folder.path("password")));
    }
}
