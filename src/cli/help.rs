//! The text of `--help`, derived from SETTINGS and from the flags of each command.

use crate::cli::args::{
    AUDIT_FLAGS, CALL_FLAGS, CLIENT_FLAGS, CONFIG_FLAGS, CONTROL_FLAGS, HEALTH_FLAGS, KEY_FLAGS,
    LOGIN_FLAGS, PROXY_FLAGS, SECRET_FLAGS, Topic,
};
use crate::config::settings::{Kind, SETTINGS, Setting};

const WIDTH: usize = 80;
/// Where the explanation of a flag begins.
const INDENT: usize = 10;

const MAIN: &str = "\
onemcp: one endpoint for all your MCP servers

Usage: onemcp [serve] [flags]          serve the servers of mcp.json
       onemcp demo [flags]             serve two small built-in servers
       onemcp config check [FILE]      report every problem of a file
       onemcp config show|diff|schema|import   see onemcp help config
       onemcp list [SERVER]            list servers, or the tools of one
       onemcp call SERVER/TOOL         call one tool
       onemcp proxy --url URL          stdio for clients of a running gateway
       onemcp health [SERVER]          ask a running gateway how it is
       onemcp secret set|get|rm NAME   keep a secret in an encrypted file
       onemcp key create|revoke NAME   give programs keys, take them back
       onemcp auth login SERVER        log the gateway in at a server
       onemcp alerts list|test [SINK]  show who is told of what; try it
       onemcp auth approve|clients|tokens|revoke|password   see onemcp help auth
       onemcp audit verify [FILE ..]   whether an audit log is as it was written
       onemcp help [COMMAND]           explain a command

       onemcp status [--watch]         how a running gateway and its servers are
       onemcp servers                  its servers, briefly
       onemcp wait [SERVER]            until all servers, or one, are ready
       onemcp logs [-f] SERVER         the last lines of a server's stderr
       onemcp restart|enable|disable SERVER
       onemcp reload                   take what the files say now into force
       onemcp drain                    let calls finish, then end the gateway
       onemcp pins diff|approve        tools that are not as they were pinned

Flags may stand before or after the command; the last one wins. A switch takes
--x, --x=true, --x=false and --no-x. A variable wins over a flag, a flag over
\"gateway\" in the file, the file over the default.

Without --config, mcp.json is taken from --config-dir, else from
$XDG_CONFIG_HOME/onemcp or ~/.config/onemcp, else from ~/.config/1mcp.
";

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   what was asked about is false, or the tool reported an error
  64  the command line is wrong
  69  the gateway or the server cannot be reached
  75  timeout
  77  refused
  78  the configuration is wrong
";

const DEMO: &str = "\
Usage: onemcp demo [flags]

Starts the gateway on two small servers that are part of the binary (a clock and
a notebook) and prints its URL, snippets for clients and a first request. It
needs no file and takes the flags of onemcp serve. Ctrl-C ends it.
";

const CONFIG: &str = "\
Usage: onemcp config check [FILE]      also: onemcp validate [FILE]
       onemcp config show [--origin] [FILE]
       onemcp config diff FILE|FOLDER
       onemcp config schema
       onemcp config import claude|cursor|vscode|1mcp [--write]

Without FILE they take the files that onemcp serve would take (--config). Flags,
variables and secrets count as they would for onemcp serve.

  check    every problem at once: one JSON object per line on stdout, the same
           as text on stderr
  show     the settings in force and what each server's entry became; what could
           be secret is covered
  diff     what a reload would do if FILE were in the place of the file, or
           FOLDER in the place of its folder; nothing is changed
  schema   the JSON Schema of mcp.json, for editors
  import   finds the servers of another program and prints the file with them
           added; entries that are there stay as they are

Exit codes:
  0   no error (check), no difference (diff), done
  1   there are differences (diff), or nothing was found (import)
  64  the command line is wrong
  78  the configuration is wrong; warnings are no reason
";

const LIST: &str = "\
Usage: onemcp list [SERVER] [flags]

Prints one JSON object per line. Without SERVER: every server, each followed by
its tools. With SERVER: that server, its tools, prompts, resources and resource
templates. The member \"kind\" says what a line is: server, tool, prompt, resource
or template; \"name\" is what clients of the gateway call a tool or prompt, what
the server said about it follows unchanged. Logs go to stderr.

Without --url the servers are started as onemcp serve would start them (it takes
--config, --filter and --log-level too) and ended again.

Exit code 0 when every enabled server is ready, 69 when one is not, 1 when there
is no such server; the others as in onemcp --help.
";

const CALL: &str = "\
Usage: onemcp call SERVER/TOOL [flags]

Calls one tool by its own name and prints its result as one JSON object; a
server's name may hold slashes. What goes wrong is printed as {\"error\":{...}}.
Progress and logs go to stderr (--log-level info).

Without --url the server is started as onemcp serve would start it (it takes
--config, --filter and --log-level too) and ended again.

Exit codes:
  0   the tool has done its work
  1   the result has \"isError\", the server refused, or there is no such tool
  64  the command line or the arguments are wrong
  69  the gateway or the server cannot be reached or did not start
  75  no answer in time
  77  the gateway refused (HTTP 401 or 403)
  78  the configuration is wrong
";

const PROXY: &str = "\
Usage: onemcp proxy --url URL [flags]

Serves a client that starts programs: reads messages from stdin, one per line,
carries them to the MCP endpoint at URL (Streamable HTTP, with sessions or
without) and writes what comes back to stdout. Logs go to stderr. It ends with
its input, once what was asked is answered, and gives its session back.

Exit codes:
  0   the client has ended it
  64  the command line is wrong
  69  the endpoint was never reached
  78  the configuration is wrong
";

const HEALTH: &str = "\
Usage: onemcp health [SERVER] [flags]

Asks the gateway on this machine how it is and prints its answer, one JSON
object. For health checks of containers: it needs no file and no other program.
The gateway is the one of --port (or ONE_MCP_PORT, or the file), asked over its
health socket, or else over HTTP on the loopback address. With SERVER it is
asked for that server, without anything for the verdict on all.

Exit codes:
  0   yes: healthy or degraded, ready, running; the server is ready
  1   no
  64  the command line is wrong
  69  no gateway can be reached there
  75  no answer in time
  78  a setting is wrong
";

const AUTH: &str = "\
Usage: onemcp auth password
       onemcp auth approve [REQUEST|CODE] [flags]
       onemcp auth clients [flags]
       onemcp auth tokens [flags]
       onemcp auth revoke GRANT|CLIENT|all [flags]
       onemcp auth login SERVER [flags]
       onemcp auth logout SERVER [flags]
       onemcp auth status [SERVER] [flags]

Who may come in, and the logins of the gateway at servers over HTTP (OAuth 2.1).
All but password speak to a running gateway on this machine, as onemcp help
status says.

  password  reads a password from the terminal or from stdin and prints its hash
            for auth.operatorPassword; it needs 12 characters
  approve   signs in the browser that shows this request number, or that the
            code in the log is for; without a word: shows which browsers wait
  clients   the programs that are known and what they were allowed
  tokens    what was granted and still lives, one line for each consent
  revoke    ends one grant, everything of a client, or everything; tokens of it
            are refused from then on
  login     prints a URL at which a person allows it, and waits until that is
            done; no browser is opened. It comes back to the gateway where that
            has a URL, or else to a port of this machine
  logout    forgets the tokens
  status    where the gateway is logged in, for what, and until when

Exit codes:
  0   done
  1   there is no such request, grant, client or login; nobody waits (approve)
  64  the command line is wrong, or the password is too short
  69  the gateway cannot be reached, or lets nobody in by itself
  75  timeout: nobody allowed it in time (login)
  77  refused, by the gateway or by the authorization server of a server
";

const CONTROL: &str = "\
Usage: onemcp status [--watch] [flags]
       onemcp servers [flags]
       onemcp wait [SERVER] [flags]
       onemcp logs [--follow] SERVER [flags]
       onemcp restart|enable|disable SERVER [flags]
       onemcp reload [flags]
       onemcp drain [flags]
       onemcp pins diff [SERVER] [flags]
       onemcp pins approve SERVER [TOOL...] [flags]
       onemcp pins approve --all [flags]

They speak to a running gateway on this machine over its control socket, as the
user that it runs as. Which one: --socket, else the one of --port (or
ONE_MCP_PORT), else the only one that runs, else the one on port 3050. Processes
that a server of the gateway started are refused.

On a terminal they speak to a person; otherwise stdout is one JSON object per
line (logs: plain lines). NO_COLOR is respected.

  status   a row for each server and what holds for the gateway; --watch goes on
           and shows what changes. As JSON: the servers, then the gateway
  wait     until every enabled server is ready, or the one that is named. Ends
           at once when one has failed; waits for the gateway itself, too
  restart  ends the server's process and starts it again; ends a crash loop
  enable, disable  until the gateway ends, or the file says otherwise
  reload   returns when the files are in force, or says what is wrong with them
  drain    returns when the gateway has ended
  pins     diff shows which tools are not as they were when they were pinned;
           approve takes them as they are now

Exit codes:
  0   done
  1   what was asked about is false: the gateway is unhealthy (status), a server
      has failed, is disabled or waits for authorisation (wait), tools differ
      (pins diff), or there is no such server
  64  the command line is wrong, or several gateways could be meant
  69  no gateway is running, or it has ended
  75  not in time
  77  refused
  78  the files are not good, and nothing has changed (reload)
";

const SECRET: &str = "\
Usage: onemcp secret set NAME [flags]
       onemcp secret get NAME [flags]
       onemcp secret list [--json] [flags]
       onemcp secret rm NAME [flags]
       onemcp secret rotate [--new-key-file FILE] [flags]
       onemcp secret key [FILE]

Keeps secrets in an encrypted file for ${SECRET:NAME} in server entries. The
value comes from stdin, or from a prompt that does not show it. A running
gateway that uses the secret notices, and restarts the servers that use it.

The file is --secrets-file, or secrets.sealed in the state directory. Its key is
in the file --secrets-key-file, or in the variable ONE_MCP_SECRETS_KEY, or is
the systemd credential onemcp-secrets-key.

  key      prints a new key, or writes it to a new file
  rotate   replaces the key in --secrets-key-file by a new one; with
           --new-key-file both keys open the file until the new one is used

Exit codes:
  0   done
  1   there is no such secret
  64  the command line, the name or the value is wrong
  75  somebody else is changing the file
  78  there is no key, it is another one, or the file cannot be used
";

const KEY: &str = "\
Usage: onemcp key create NAME --scopes SCOPES [--expires TIME] [flags]
       onemcp key list [--json] [flags]
       onemcp key revoke NAME [flags]

API keys for programs that call a gateway with --enable-auth and cannot log in:
they send one as \"Authorization: Bearer KEY\". The key is printed once, by
create; the file keeps a hash of it, its name, its scopes and its end. A running
gateway notices within a second. revoke takes the id of a key, too.

The file is --auth-api-key-file, or api-keys.json in the state directory.

Exit codes:
  0   done
  1   there is no such key, or there is one of that name already
  64  the command line, the name or the scopes are wrong
  78  the file cannot be used
";

const ALERTS: &str = "\
Usage: onemcp alerts list [flags]
       onemcp alerts test [SINK] [flags]

Reads the file that onemcp serve would take and prints one JSON object per line.

  list  the sinks (without a secret) and every rule as it is followed
  test  sends a test message to every sink, or to SINK, once and without waiting
        for its turn; to PagerDuty also the one that resolves it

Exit codes:
  0   done; every sink took the message
  1   a sink did not take it, there is no such sink, or there is none at all
  64  the command line is wrong
  78  the configuration is wrong
";

const AUDIT: &str = "\
Usage: onemcp audit verify [FILE ..] [flags]

Reads an audit log and says whether a line of it was changed, moved or taken
away. FILE: all its files, the oldest first; without one, audit.log in the state
directory and what was put aside of it. The secret is --audit-key-file, or
audit.key in the state directory. What is wrong goes to stderr.

Exit codes:
  0   nothing is wrong
  1   something is
  64  the command line is wrong
  78  a file or the key cannot be read
";

/// The help text of a topic, at most 80 columns wide.
pub fn text(topic: Topic) -> String {
    match topic {
        Topic::Main => format!("{MAIN}\n{}\n{EXIT_CODES}", settings_text()),
        Topic::Demo => DEMO.to_owned(),
        Topic::Config => format!("{CONFIG}\n{}", flags_text(CONFIG_FLAGS)),
        Topic::Alerts => ALERTS.to_owned(),
        Topic::Audit => format!("{AUDIT}\n{}", flags_text(AUDIT_FLAGS)),
        Topic::List => format!("{LIST}\n{}", flags_text(CLIENT_FLAGS)),
        Topic::Health => format!("{HEALTH}\n{}", flags_text(HEALTH_FLAGS)),
        Topic::Control => format!("{CONTROL}\n{}", flags_text(CONTROL_FLAGS)),
        Topic::Auth => format!(
            "{AUTH}\n{}{}",
            flags_text(LOGIN_FLAGS),
            flags_text(CONTROL_FLAGS)
        ),
        Topic::Secret => format!("{SECRET}\n{}", flags_text(SECRET_FLAGS)),
        Topic::Key => format!("{KEY}\n{}", flags_text(KEY_FLAGS)),
        Topic::Proxy => format!("{PROXY}\n{}", flags_text(PROXY_FLAGS)),
        Topic::Call => {
            format!(
                "{CALL}\n{}{}",
                flags_text(CALL_FLAGS),
                flags_text(CLIENT_FLAGS)
            )
        }
    }
}

/// What `onemcp --version` prints.
pub fn version() -> String {
    format!("onemcp {}", env!("CARGO_PKG_VERSION"))
}

fn settings_text() -> String {
    let mut out = String::from("Flags, their variables and keys:\n");
    for row in SETTINGS {
        out.push_str(&setting_text(row));
    }
    out.push_str("  -h, --help\n          Print this\n");
    out.push_str("  -V, --version\n          Print the version\n");
    out
}

fn setting_text(row: &Setting) -> String {
    let short = row
        .short
        .map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let placeholder = row.kind.placeholder();
    let space = if placeholder.is_empty() { "" } else { " " };
    let mut out = format!("  {short}--{}{space}{placeholder}\n", row.flag);
    let mut words = row.help.to_owned();
    if let Some(default) = shown_default(row) {
        words.push_str(&format!(" (default {default})"));
    }
    wrap_into(&mut out, &words);
    let key = if row.in_file {
        format!(", gateway.{}", row.key)
    } else {
        String::new()
    };
    wrap_into(&mut out, &format!("{}{key}", row.env));
    out
}

/// A switch that is off needs no mention.
fn shown_default(row: &Setting) -> Option<&'static str> {
    row.default
        .filter(|text| !(matches!(row.kind, Kind::Switch) && *text == "false"))
}

fn flags_text(flags: &[(&str, &str, &str)]) -> String {
    let mut out = String::new();
    for (flag, placeholder, help) in flags {
        out.push_str(format!("      --{flag} {placeholder}").trim_end());
        out.push('\n');
        wrap_into(&mut out, help);
    }
    out
}

/// Appends the words as an indented paragraph.
fn wrap_into(out: &mut String, words: &str) {
    let mut line = String::new();
    for word in words.split_whitespace() {
        let full = INDENT + line.chars().count() + 1 + word.chars().count() > WIDTH;
        if full && !line.is_empty() {
            push_line(out, &line);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push_line(out, &line);
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(&" ".repeat(INDENT));
    out.push_str(line);
    out.push('\n');
}

/// SETTINGS as the Markdown table of the README.
pub fn settings_markdown() -> String {
    let mut out =
        String::from("| flag | variable | key | default | meaning |\n|---|---|---|---|---|\n");
    for row in SETTINGS {
        let short = row
            .short
            .map_or_else(String::new, |short| format!(", `-{short}`"));
        let key = if row.in_file {
            format!("`gateway.{}`", row.key)
        } else {
            String::new()
        };
        let default = row
            .default
            .map_or_else(String::new, |text| format!("`{text}`"));
        out.push_str(&format!(
            "| `--{}`{short} | `{}` | {key} | {default} | {} |\n",
            row.flag, row.env, row.help
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{settings_markdown, text, version};
    use crate::cli::args::Topic;
    use crate::config::settings::SETTINGS;

    #[test]
    fn fits_eighty_columns() {
        let topics = [
            Topic::Main,
            Topic::Demo,
            Topic::Config,
            Topic::List,
            Topic::Call,
            Topic::Proxy,
            Topic::Health,
            Topic::Control,
            Topic::Alerts,
            Topic::Auth,
        ];
        for topic in topics {
            let text = text(topic);
            assert!(text.ends_with('\n'), "{topic:?}");
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{topic:?}: {line}");
                assert_eq!(line, line.trim_end(), "{topic:?}");
            }
        }
    }

    #[test]
    fn names_every_setting() {
        let (main, table) = (text(Topic::Main), settings_markdown());
        for row in SETTINGS {
            for name in [format!("--{}", row.flag), row.env.to_owned()] {
                assert!(main.contains(&name), "{name}");
                assert!(table.contains(&name), "{name}");
            }
            assert!(!row.help.is_empty(), "{}", row.key);
        }
        assert!(version().starts_with("onemcp "));
    }
}
