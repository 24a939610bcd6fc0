//! Files in which other programs keep their MCP servers: where in such a file the servers are,
//! and what holds for them there. Pure. One reading serves all of them, because the shapes do
//! not contradict each other.
//!
//! | member | program |
//! |---|---|
//! | `mcpServers` | Claude, Cursor, 1MCP, most others |
//! | `projects.PATH.mcpServers` | Claude Code, of one folder |
//! | `servers` with `inputs` | VS Code, `mcp.json` |
//! | `mcp.servers` with `mcp.inputs` | VS Code, older `settings.json` |

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// One server as it is written there.
#[derive(Debug, PartialEq)]
pub struct Written<'v> {
    pub name: &'v str,
    pub entry: &'v Value,
    /// The folder that it belongs to: where it runs, and what `${workspaceFolder}` is.
    pub folder: Option<PathBuf>,
    /// What its user is asked for, as VS Code writes it.
    pub inputs: &'v [Value],
    /// Switched off in a list beside it.
    pub disabled: bool,
}

/// All servers of a document that belongs to `folder`, first those for everybody.
pub fn servers<'v>(root: &'v Value, folder: Option<&Path>) -> Vec<Written<'v>> {
    let mut found = Vec::new();
    let folder = folder.map(Path::to_path_buf);
    collect(root, "mcpServers", root, folder.clone(), &mut found);
    collect(root, "servers", root, folder.clone(), &mut found);
    collect(root, "mcp.servers", root, folder.clone(), &mut found);
    if let Some(inner) = root.get("mcp") {
        collect(inner, "servers", inner, folder.clone(), &mut found);
        collect(inner, "mcpServers", inner, folder, &mut found);
    }
    for (path, project) in members(root, "projects") {
        let folder = Some(PathBuf::from(path));
        collect(project, "mcpServers", project, folder, &mut found);
    }
    found
}

/// Which servers of a folder's own file its user has switched off, as `~/.claude.json` says.
pub fn disabled_in_project<'v>(root: &'v Value, folder: &Path) -> Vec<&'v str> {
    let projects = root.get("projects");
    let project = folder.to_str().and_then(|folder| projects?.get(folder));
    project.map_or_else(Vec::new, |project| texts(project, "disabledMcpjsonServers"))
}

fn collect<'v>(
    holder: &'v Value,
    key: &str,
    beside: &'v Value,
    folder: Option<PathBuf>,
    found: &mut Vec<Written<'v>>,
) {
    let inputs = beside.get("inputs").and_then(Value::as_array);
    let off = texts(beside, "disabledMcpServers");
    for (name, entry) in members(holder, key) {
        found.push(Written {
            name,
            entry,
            folder: folder.clone(),
            inputs: inputs.map_or(&[], Vec::as_slice),
            disabled: off.contains(&name),
        });
    }
}

fn members<'v>(holder: &'v Value, key: &str) -> impl Iterator<Item = (&'v str, &'v Value)> {
    let object = holder.get(key).and_then(Value::as_object);
    let members = object.into_iter().flat_map(Map::iter);
    members.map(|(name, value)| (name.as_str(), value))
}

fn texts<'v>(holder: &'v Value, key: &str) -> Vec<&'v str> {
    let list = holder.get(key).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::{disabled_in_project, servers};

    fn check(root: &Value, expect: &[&str]) {
        let found = servers(root, Some(Path::new("/w")));
        let shown: Vec<String> = found
            .iter()
            .map(|one| {
                let folder = one
                    .folder
                    .as_deref()
                    .map_or("", |path| path.to_str().unwrap());
                let off = if one.disabled { " off" } else { "" };
                format!("{} {folder} {}{off}", one.name, one.inputs.len())
            })
            .collect();
        assert_eq!(shown, expect, "{root}");
    }

    #[test]
    fn every_shape_is_found() {
        check(
            &json!({"mcpServers": {"a": {}, "b": {}}}),
            &["a /w 0", "b /w 0"],
        );
        let vscode = json!({"servers": {"a": {}}, "inputs": [{"id": "x"}]});
        check(&vscode, &["a /w 1"]);
        check(&json!({"editor.x": 1, "mcp": vscode}), &["a /w 1"]);
        let state = json!({
            "numStartups": 3,
            "mcpServers": {"u": {}},
            "projects": {
                "/p": {"mcpServers": {"l": {}, "m": {}}, "disabledMcpServers": ["m"]},
                "/q": {"allowedTools": []},
            },
        });
        check(&state, &["u /w 0", "l /p 0", "m /p 0 off"]);
        for none in [
            json!([]),
            json!({"mcpServers": []}),
            json!({"servers": 1, "mcp": null}),
        ] {
            check(&none, &[]);
        }
    }

    #[test]
    fn what_was_switched_off_for_a_folder() {
        let state = json!({"projects": {"/p": {"disabledMcpjsonServers": ["x", 1]}}});
        assert_eq!(disabled_in_project(&state, Path::new("/p")), ["x"]);
        assert!(disabled_in_project(&state, Path::new("/q")).is_empty());
    }
}
