//! `onemcp demo`: the gateway on the two embedded demo servers, without any file, and what a
//! person needs to try it. Stdout keeps the one line that scripts read.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::base::secret::Secret;
use crate::cli::serve::{refused, serve};
use crate::cli::{quieten, say};
use crate::config::child::inherited;
use crate::config::server::{ProcessSpec, ServerConfig};
use crate::config::settings::Flags;
use crate::config::{Environment, load_settings, process_environment};

pub fn run(flags: &Flags) -> ExitCode {
    let environment = process_environment();
    let mut config = match load_settings(flags, &environment) {
        Ok(config) => config,
        Err(error) => return refused(&error),
    };
    config.servers = ["clock", "notes"]
        .map(|kind| demo_server(kind, &environment))
        .to_vec();
    quieten(&mut config.settings);
    serve(config, None, |url| say(&welcome(url)))
}

fn demo_server(kind: &str, environment: &Environment) -> ServerConfig {
    let env = inherited(environment, false, &[])
        .into_iter()
        .map(|(name, value)| (name, Secret::new(value)));
    let process = ProcessSpec {
        program: own_program(),
        args: vec!["demo-server".to_owned(), kind.to_owned()],
        env: env.collect(),
        cwd: None,
    };
    ServerConfig {
        tags: vec!["demo".to_owned()],
        ..ServerConfig::shared(kind, process)
    }
}

/// This binary; by its link in the process table when its file was replaced or removed, by what
/// it was started as where there is no process table.
fn own_program() -> String {
    let started = std::env::args_os().next().map(PathBuf::from);
    let path = std::env::current_exe().ok().filter(|path| path.is_file());
    path.or_else(|| started.filter(|path| path.is_absolute() && path.is_file()))
        .and_then(|path| path.into_os_string().into_string().ok())
        .unwrap_or_else(|| "/proc/self/exe".to_owned())
}

/// What is told once the gateway listens. Every command works as pasted, in any POSIX shell.
fn welcome(url: &str) -> String {
    format!(
        r#"
onemcp serves two demo servers, "clock" and "notes", at
    {url}
Ctrl-C ends it.

Claude Code:
    claude mcp add --transport http onemcp {url}

Cursor (~/.cursor/mcp.json):
    {{"mcpServers": {{"onemcp": {{"url": "{url}"}}}}}}

VS Code (.vscode/mcp.json):
    {{"servers": {{"onemcp": {{"type": "http", "url": "{url}"}}}}}}

Claude Desktop (claude_desktop_config.json; it starts programs, so it gets a proxy):
    {{"mcpServers": {{"onemcp": {{"command": "onemcp", "args": ["proxy", "--url", "{url}"]}}}}}}

A first tool, with this program:
    onemcp call notes/add_note --url {url} --args '{{"title":"Hello","text":"It works"}}'

A first request, with curl (a session, then the list of tools):
SESSION=$(curl -sS -D - -o /dev/null '{url}' \
  -H 'Content-Type: application/json' \
  -H 'Accept: application/json, text/event-stream' \
  -d '{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{
        "protocolVersion":"2025-11-25","capabilities":{{}},
        "clientInfo":{{"name":"curl","version":"1"}}}}}}' \
  | tr -d '\r' | sed -n 's/^[Mm]cp-[Ss]ession-[Ii]d: *//p')
curl -sS '{url}' \
  -H "Mcp-Session-Id: $SESSION" \
  -H 'MCP-Protocol-Version: 2025-11-25' \
  -H 'Content-Type: application/json' \
  -H 'Accept: application/json, text/event-stream' \
  -d '{{"jsonrpc":"2.0","id":2,"method":"tools/list"}}'
"#
    )
}

#[cfg(test)]
mod tests {
    use super::welcome;

    #[test]
    fn snippets_are_json() {
        let text = welcome("http://127.0.0.1:3050/mcp");
        let objects = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with('{'));
        let mut seen = 0;
        for object in objects {
            serde_json::from_str::<serde_json::Value>(object).expect(object);
            seen += 1;
        }
        assert_eq!(seen, 3);
    }
}
