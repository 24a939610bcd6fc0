//! `onemcp key`: API keys in their file. A key is printed once, when it is made. A running
//! gateway looks at the file, so that nothing has to be told to it.

use std::path::Path;
use std::process::ExitCode;

use crate::auth::api_key::{self, ApiKey};
use crate::auth::api_key_file;
use crate::base::exit::{EXIT_CONFIGURATION, EXIT_FALSE, EXIT_USAGE};
use crate::base::limits;
use crate::base::time::{rfc3339_of_s, unix_s};
use crate::cli::args::{KeyFlags, KeyVerb};
use crate::cli::secret::settings;
use crate::cli::{print, say};
use crate::config::process_environment;
use crate::config::settings::Flags;
use crate::model::scope::Scopes;
use crate::wire::json::quoted;

/// An exit code, and why.
type Refused = (u8, String);

pub fn run(asked: &KeyFlags, flags: &Flags) -> ExitCode {
    match carry_out(asked, flags) {
        Ok(text) => print(&text),
        Err((code, text)) => {
            say(&format!("onemcp: {text}"));
            ExitCode::from(code)
        }
    }
}

/// What is to be printed.
fn carry_out(asked: &KeyFlags, flags: &Flags) -> Result<String, Refused> {
    let environment = process_environment();
    let settings =
        settings(flags, &environment).map_err(|error| (error.exit_code(), error.to_string()))?;
    let file = api_key_file(&settings, &environment).ok_or((
        EXIT_CONFIGURATION,
        "no folder for the file of keys is known; name one: --auth-api-key-file".to_owned(),
    ))?;
    match &asked.verb {
        KeyVerb::Create(name) => create(name, asked, &file),
        KeyVerb::List => list(&file, asked.json),
        KeyVerb::Revoke(name) => revoke(name, &file),
    }
}

fn broken(why: String) -> Refused {
    (EXIT_CONFIGURATION, format!("failed to {why}"))
}

fn create(name: &str, asked: &KeyFlags, file: &Path) -> Result<String, Refused> {
    if !api_key::is_name(name) {
        let most = limits::API_KEY_NAME_BYTES;
        let what = format!("a name is 1 to {most} characters of A-Z a-z 0-9 - _ . @");
        return Err((EXIT_USAGE, what));
    }
    let scopes = Scopes::parse(asked.scopes.as_deref().unwrap_or_default())
        .map_err(|bad| (EXIT_USAGE, format!("failed to take the scopes: {bad}")))?;
    if scopes.is_empty() {
        return Err((EXIT_USAGE, "a key without scopes opens nothing".to_owned()));
    }
    let now_s = unix_s();
    let end_s = asked.expires.map(|life| now_s + life.as_secs());
    let (key, text) = ApiKey::new(name, scopes, now_s, end_s);
    let id = key.id.clone();
    let made = api_key::edit(file, |keys| {
        if keys.iter().any(|known| known.name == name) {
            return Ok(Err(format!(
                "there is a key {name} already; revoke it first"
            )));
        }
        if keys.len() >= limits::API_KEYS {
            return Ok(Err(format!("there are {} keys already", keys.len())));
        }
        keys.push(key);
        Ok(Ok(()))
    });
    made.map_err(broken)?.map_err(|why| (EXIT_FALSE, why))?;
    say(&format!(
        "key {name} ({id}) is in {}; it is shown this once",
        file.display()
    ));
    Ok(format!("{text}\n"))
}

fn list(file: &Path, as_json: bool) -> Result<String, Refused> {
    let keys = api_key::load(file).map_err(broken)?;
    let lines = keys.iter().map(|key| {
        let (created, end) = (rfc3339_of_s(key.created_s), key.expires_s.map(rfc3339_of_s));
        if !as_json {
            let end = end.map(|end| format!(" until {end}")).unwrap_or_default();
            return format!(
                "{}  {}  {}  since {created}{end}\n",
                key.id, key.name, key.scopes
            );
        }
        let (id, name) = (quoted(&key.id), quoted(&key.name));
        let scopes = quoted(&key.scopes.to_string());
        let end = end.map_or("null".to_owned(), |end| quoted(&end));
        format!(
            "{{\"id\":{id},\"name\":{name},\"scopes\":{scopes},\"created\":\"{created}\",\
             \"expires\":{end}}}\n"
        )
    });
    Ok(lines.collect())
}

fn revoke(name: &str, file: &Path) -> Result<String, Refused> {
    let count = api_key::edit(file, |keys| {
        let before = keys.len();
        keys.retain(|key| key.name != name && key.id != name);
        Ok(before - keys.len())
    });
    match count.map_err(broken)? {
        0 => Err((
            EXIT_FALSE,
            format!("there is no key {name} in {}", file.display()),
        )),
        _ => {
            say(&format!("key {name} is good no more"));
            Ok(String::new())
        }
    }
}
