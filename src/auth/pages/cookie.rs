//! The cookies of people: how they are called, read and set. Over https a browser keeps them to
//! this very host (`__Host-`). On http, which is for loopback only, ports share their cookies: so
//! the port is in the name. Pure.

use std::time::Duration;

use crate::http::Head;

/// What a cookie is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jar {
    /// Says that a form comes from the browser that it was made for.
    Form,
    /// The session of the operator.
    Operator,
}

/// How cookies of one gateway look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookies {
    is_https: bool,
    port: u16,
}

impl Cookies {
    /// Of the URL that people know the gateway by.
    pub fn of(issuer: &str) -> Cookies {
        let is_https = issuer.starts_with("https://");
        let authority = issuer.split("//").nth(1).unwrap_or_default();
        let authority = authority.split('/').next().unwrap_or_default();
        let port = authority
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        Cookies {
            is_https,
            port: port.unwrap_or(80),
        }
    }

    pub fn name(&self, jar: Jar) -> String {
        let word = match jar {
            Jar::Form => "form",
            Jar::Operator => "operator",
        };
        match self.is_https {
            true => format!("__Host-onemcp-{word}"),
            false => format!("onemcp-{word}-{}", self.port),
        }
    }

    /// The value that was sent. Two of one name are none: one of them is somebody else's.
    pub fn read<'h>(&self, jar: Jar, head: &'h Head<'_>) -> Option<&'h str> {
        let name = self.name(jar);
        let mut found = None;
        for pair in head
            .header_values("Cookie")
            .flat_map(|text| text.split(';'))
        {
            let Some((_, value)) = pair.trim().split_once('=').filter(|(one, _)| *one == name)
            else {
                continue;
            };
            if found.replace(value).is_some() {
                return None;
            }
        }
        found.filter(|value| is_token(value))
    }

    /// The header that sets one; no time takes it away.
    pub fn set(&self, jar: Jar, value: &str, lives: Duration) -> String {
        let secure = if self.is_https { "; Secure" } else { "" };
        format!(
            "{}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
            self.name(jar),
            lives.as_secs(),
        )
    }
}

/// As we make them.
fn is_token(text: &str) -> bool {
    text.len() == 43
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
