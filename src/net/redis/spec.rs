//! Where a shared store is, as it is written in one line:
//! `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://` for TLS, and
//! `redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/NAME[/DATABASE]` (or `rediss+sentinel://`)
//! where sentinels know who the primary is. Behind `?` may follow `ca=FILE`, `prefix=WORD`, and
//! `sentinel-password=TEXT`. User, password and options are percent-encoded. Pure.

use crate::base::secret::Secret;
use crate::net::url::Url;
use crate::wire::percent;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub is_tls: bool,
    /// One, or the sentinels; IPv6 in its brackets.
    pub hosts: Vec<(String, u16)>,
    /// What the sentinels call the primary; without it there are none.
    pub primary: Option<String>,
    /// Empty: the user that needs no name.
    pub user: String,
    pub password: Option<Secret>,
    pub sentinel_password: Option<Secret>,
    pub database: u16,
    /// PEM of the authorities that are trusted; the usual file of the system otherwise.
    pub ca_file: Option<String>,
    /// What all names begin with.
    pub prefix: String,
}

const USUAL_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const WRITE: &str = "write it like redis://user:password@store.example:6379/0";

impl Spec {
    /// # Errors
    /// What would be right; nothing of the text is quoted, because it holds a password.
    pub fn parse(text: &str) -> Result<Spec, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or(WRITE)?;
        let (is_tls, has_sentinels) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            _ => return Err("write redis://, rediss:// or redis+sentinel:// before the host"),
        };
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (account, hosts) = match authority.rsplit_once('@') {
            Some((account, hosts)) => (account, hosts),
            None => ("", authority),
        };
        let (user, password) = account.split_once(':').unwrap_or((account, ""));
        let port = if has_sentinels {
            SENTINEL_PORT
        } else {
            USUAL_PORT
        };
        let hosts = hosts.split(',').map(|host| read_host(host, port));
        let hosts = hosts.collect::<Option<Vec<_>>>().ok_or(WRITE)?;
        if hosts.len() > 1 && !has_sentinels {
            return Err("write one host; several are for redis+sentinel://");
        }
        let (primary, database) = match (has_sentinels, path.split_once('/')) {
            (true, Some((name, database))) => (Some(name), database),
            (true, None) => (Some(path), ""),
            (false, _) => (None, path),
        };
        if primary.is_some_and(str::is_empty) {
            return Err("write the name that the sentinels know behind their hosts: /mymaster");
        }
        let database = match database {
            "" => 0,
            digits => digits
                .parse()
                .map_err(|_| "write the number of a database behind the host, such as /0")?,
        };
        let mut spec = Spec {
            is_tls,
            hosts,
            primary: primary.map(decoded).transpose()?,
            user: decoded(user)?,
            password: secret(password)?,
            sentinel_password: None,
            database,
            ca_file: None,
            prefix: "onemcp".to_owned(),
        };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            spec.take_option(option)?;
        }
        Ok(spec)
    }

    fn take_option(&mut self, option: &str) -> Result<(), &'static str> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "ca" => self.ca_file = Some(decoded(value)?),
            "prefix" => self.prefix = decoded(value)?,
            "sentinel-password" => self.sentinel_password = secret(value)?,
            _ => return Err("write ca=, prefix= or sentinel-password= behind the question mark"),
        }
        Ok(())
    }

    /// For people: without user, password and options.
    pub fn shown(&self) -> String {
        let hosts = self
            .hosts
            .iter()
            .map(|(host, port)| format!("{host}:{port}"));
        hosts.collect::<Vec<_>>().join(",")
    }
}

/// `host`, `host:port` or `[v6]:port`; a URL decides what a host is.
fn read_host(text: &str, port: u16) -> Option<(String, u16)> {
    let url = Url::parse(&format!("http://{text}/")).ok()?;
    let rest = text.rsplit_once(']').map_or(text, |(_, rest)| rest);
    let port = if rest.contains(':') { url.port() } else { port };
    let host = url.host();
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let is_bare = url.path() == "/" && url.query().is_none();
    is_bare.then_some((host, port))
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let plain = percent::decode(text).filter(|text| !text.chars().any(char::is_control));
    plain.ok_or("write %XX for what has a meaning in a URL, such as %40 for @ in a password")
}

fn secret(text: &str) -> Result<Option<Secret>, &'static str> {
    let plain = decoded(text)?;
    Ok((!plain.is_empty()).then(|| Secret::known(plain)))
}

#[cfg(test)]
mod tests {
    use super::Spec;

    #[test]
    fn reads_what_is_documented() {
        let spec = Spec::parse("redis://store").unwrap();
        assert_eq!(spec.hosts, [("store".to_owned(), 6379)]);
        assert_eq!(
            (spec.is_tls, spec.database, spec.user.as_str()),
            (false, 0, "")
        );
        let spec = Spec::parse("rediss://u:p%40ss@[::1]:7/3?ca=%2Fetc%2Fca.pem&prefix=x").unwrap();
        assert_eq!(spec.hosts, [("[::1]".to_owned(), 7)]);
        assert_eq!(spec.password.as_ref().unwrap().expose(), "p@ss");
        assert_eq!(
            (spec.is_tls, spec.database, spec.user.as_str()),
            (true, 3, "u")
        );
        assert_eq!(spec.ca_file.as_deref(), Some("/etc/ca.pem"));
        assert_eq!(spec.prefix, "x");
        let spec = Spec::parse("redis+sentinel://:p@a,b:1/main/2?sentinel-password=s").unwrap();
        assert_eq!(spec.hosts, [("a".to_owned(), 26379), ("b".to_owned(), 1)]);
        assert_eq!((spec.primary.as_deref(), spec.database), (Some("main"), 2));
        assert_eq!(spec.shown(), "a:26379,b:1");
        assert!(!format!("{spec:?}").contains("\"p\""), "{spec:?}");
    }

    #[test]
    fn refuses_what_could_mean_something_else() {
        for bad in [
            "",
            "store:6379",
            "http://store",
            "redis://",
            "redis://a,b",
            "redis://a:0",
            "redis://a b",
            "redis://a/x",
            "redis://a/70000",
            "redis://u:%zz@a",
            "redis://u:%0a@a",
            "redis://a?tls=yes",
            "redis+sentinel://a:1",
            "redis+sentinel://a:1/",
        ] {
            assert!(Spec::parse(bad).is_err(), "{bad}");
        }
    }
}
