//! Where the configuration file is.

use std::path::{Path, PathBuf};

use crate::config::Environment;
use crate::config::foreign::variable_of;
use crate::config::settings::{Flags, variable};

pub const FILE_NAME: &str = "mcp.json";
/// The flag of a configuration that is no file.
pub const CONFIG_JSON: &str = "config-json";

#[derive(Debug, PartialEq, Eq)]
pub enum Location {
    /// Named by the user, or found.
    At(PathBuf),
    /// Nowhere; these were tried.
    Nowhere(Vec<PathBuf>),
}

/// A named file is taken as it is, a named directory must hold `mcp.json`; only without
/// either are the usual places tried.
pub fn locate(
    flags: &Flags,
    environment: &Environment,
    exists: &dyn Fn(&Path) -> bool,
) -> Location {
    if let Some((_, file)) = given("config", flags, environment) {
        return Location::At(PathBuf::from(file));
    }
    let tried = match named(flags, environment) {
        Some(path) => vec![path],
        None => usual_places(environment),
    };
    match tried.iter().find(|path| exists(path)) {
        Some(path) => Location::At(path.clone()),
        None => Location::Nowhere(tried),
    }
}

/// Where a file that is written goes: the one that is named, or the first of the usual places.
pub fn own_place(flags: &Flags, environment: &Environment) -> Option<PathBuf> {
    match locate(flags, environment, &|_| false) {
        Location::At(path) => Some(path),
        Location::Nowhere(tried) => tried.into_iter().next(),
    }
}

/// The variable or the flag that was given, as people know it, and its value.
pub fn given<'g>(
    flag: &str,
    flags: &'g Flags,
    environment: &'g Environment,
) -> Option<(String, &'g str)> {
    let name = variable_of(flag);
    if let Some(text) = variable(environment, &name) {
        return Some((name, text));
    }
    let text = flags.get(flag)?;
    Some((format!("--{flag}"), text))
}

/// Where the user says the file is, or would be.
pub fn named(flags: &Flags, environment: &Environment) -> Option<PathBuf> {
    let path = |flag: &str| {
        let (_, text) = given(flag, flags, environment)?;
        Some(PathBuf::from(text))
    };
    let in_folder = || path("config-dir").map(|folder| folder.join(FILE_NAME));
    path("config").or_else(in_folder)
}

fn usual_places(environment: &Environment) -> Vec<PathBuf> {
    let absolute = |name: &str| {
        variable(environment, name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let dot_config = absolute("HOME").map(|home| home.join(".config"));
    let own = absolute("XDG_CONFIG_HOME").or_else(|| dot_config.clone());
    let own = own.map(|base| base.join("onemcp").join(FILE_NAME));
    let theirs = dot_config.map(|base| base.join("1mcp").join(FILE_NAME));
    own.into_iter().chain(theirs).collect()
}

#[cfg(test)]
mod tests {
    use super::{Location, locate};
    use crate::config::Environment;
    use crate::config::settings::Flags;

    fn check(environment: &[(&str, &str)], flags: &[(&'static str, &str)], there: &str, ex: &str) {
        let variables: Environment = environment
            .iter()
            .map(|(name, text)| ((*name).into(), (*text).into()))
            .collect();
        let mut given = Flags::default();
        for (flag, text) in flags {
            given.set(flag, (*text).to_owned());
        }
        let exists = |path: &std::path::Path| {
            there
                .split(' ')
                .any(|one| path == std::path::Path::new(one))
        };
        let found = match locate(&given, &variables, &exists) {
            Location::At(path) => path.display().to_string(),
            Location::Nowhere(tried) => {
                let tried: Vec<String> = tried.iter().map(|p| p.display().to_string()).collect();
                format!("not in {}", tried.join(" "))
            }
        };
        assert_eq!(found, ex, "{environment:?} {flags:?} {there}");
    }

    #[test]
    fn order_of_places() {
        let home = ("HOME", "/h");
        let own = "/h/.config/onemcp/mcp.json";
        let theirs = "/h/.config/1mcp/mcp.json";
        let both = "/h/.config/onemcp/mcp.json /h/.config/1mcp/mcp.json";
        check(&[home], &[], both, own);
        check(&[home], &[], theirs, theirs);
        check(&[home], &[], "", &format!("not in {both}"));
        check(
            &[home, ("XDG_CONFIG_HOME", "/x")],
            &[],
            "/x/onemcp/mcp.json",
            "/x/onemcp/mcp.json",
        );
        check(&[home, ("XDG_CONFIG_HOME", "/x")], &[], both, theirs);
        check(&[home, ("XDG_CONFIG_HOME", "rel")], &[], both, own);
        check(&[], &[], both, "not in ");
        check(&[home], &[("config", "a.json")], both, "a.json");
        check(
            &[("ONE_MCP_CONFIG", "e.json")],
            &[("config", "a.json")],
            "",
            "e.json",
        );
        check(
            &[("ONE_MCP_CONFIG", "")],
            &[("config", "a.json")],
            "",
            "a.json",
        );
        check(
            &[home],
            &[("config-dir", "/d")],
            "/d/mcp.json",
            "/d/mcp.json",
        );
        check(&[home], &[("config-dir", "/d")], both, "not in /d/mcp.json");
        check(
            &[("ONE_MCP_CONFIG_DIR", "/e")],
            &[("config-dir", "/d")],
            "/e/mcp.json",
            "/e/mcp.json",
        );
        check(
            &[("ONE_MCP_CONFIG_DIR", "/e")],
            &[("config", "a.json")],
            "/e/mcp.json",
            "a.json",
        );
    }
}
