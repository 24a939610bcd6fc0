//! HTML as text: what others wrote made harmless, and the frame and the headers of a page. Pages
//! have no scripts, load nothing, and work on a phone and without colours. Pure.
//!
//! The policy (CSP) names the style by its hash; a form may lead to us and to the one origin
//! that a consent goes back to, because browsers judge the redirect that follows, too.

use ring::digest::{SHA256, digest};

use crate::http::Reply;
use crate::model::visible_text;
use crate::wire::base64;

const STYLE: &str = include_str!("style.css");

/// One page, before it is an answer.
pub struct Page {
    pub status: u16,
    pub title: &'static str,
    /// Who is asking for attention: the name of this gateway.
    pub gateway: String,
    /// HTML behind the heading, which it begins with.
    pub main: String,
    /// HTML at the end of the page.
    pub foot: String,
    /// A source expression of CSP: where a form of this page may end beside here.
    pub leads_to: Option<String>,
}

impl Page {
    pub fn reply(&self) -> Reply {
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta name=\"robots\" content=\"noindex\">\n\
             <title>{} - onemcp</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <header><p><strong>onemcp</strong> <span>{}</span></p></header>\n\
             <main>\n{}</main>\n<footer>{}</footer>\n</body>\n</html>\n",
            self.title,
            foreign(&self.gateway, 80),
            self.main,
            self.foot,
        );
        let mut reply = guarded(self.status, self.leads_to.as_deref());
        reply
            .headers
            .push(("Content-Type", "text/html; charset=utf-8".to_owned()));
        reply.body = html.into_bytes();
        reply
    }
}

/// Leads the browser on. Nobody is told where it came from.
pub fn redirect(to: &str) -> Reply {
    guarded(303, None).with("Location", to)
}

/// An empty answer with the headers that all of ours have.
fn guarded(status: u16, leads_to: Option<&str>) -> Reply {
    let hash = base64::encode_standard(digest(&SHA256, STYLE.as_bytes()).as_ref());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'{}{}; \
         frame-ancestors 'none'; base-uri 'none'",
        if leads_to.is_some() { " " } else { "" },
        leads_to.unwrap_or_default(),
    );
    Reply::empty(status)
        .with("Content-Security-Policy", policy)
        .with("X-Frame-Options", "DENY")
        .with("X-Content-Type-Options", "nosniff")
        // With `no-referrer` a browser would hide the origin of our own forms from us.
        .with("Referrer-Policy", "same-origin")
        .with("Cross-Origin-Opener-Policy", "same-origin")
        .with("Cache-Control", "no-store")
}

/// Text for content and quoted attributes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// What others wrote: bounded, without characters that hide or turn other text, and escaped.
pub fn foreign(text: &str, most: usize) -> String {
    let text = visible_text::clean(text);
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = chars.by_ref().take(most).collect();
    if chars.next().is_some() {
        shown.push('\u{2026}');
    }
    escaped(&shown)
}

#[cfg(test)]
mod tests {
    use super::{Page, escaped, foreign};

    #[test]
    fn what_others_wrote_is_text_and_nothing_else() {
        let table = [
            ("Claude", "Claude"),
            (
                "<img src=x onerror=alert(1)>",
                "&lt;img src=x onerror=alert(1)&gt;",
            ),
            ("\"><script>", "&quot;&gt;&lt;script&gt;"),
            ("a' b=c & &lt;", "a&#39; b=c &amp; &amp;lt;"),
            ("\u{202E}lru", "lru"),
            ("a\u{200B}b\u{E0041}c", "abc"),
            ("a\r\nb", "a  b"),
            ("12345678901", "1234567890\u{2026}"),
        ];
        for (wrote, expect) in table {
            let most = if wrote.starts_with('1') { 10 } else { 100 };
            assert_eq!(foreign(wrote, most), expect);
        }
        assert_eq!(escaped("<&>\"'"), "&lt;&amp;&gt;&quot;&#39;");
    }

    #[test]
    fn a_page_cannot_be_framed_kept_or_scripted() {
        let page = Page {
            status: 200,
            title: "Sign in",
            gateway: "<gateway>".into(),
            main: "<h1>x</h1>".into(),
            foot: String::new(),
            leads_to: Some("https://app.example".into()),
        };
        let reply = page.reply();
        let header = |name: &str| {
            let found = reply.headers.iter().find(|(one, _)| *one == name);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let policy = header("Content-Security-Policy");
        for part in [
            "default-src 'none'; style-src 'sha256-",
            "form-action 'self' https://app.example;",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("X-Frame-Options"), "DENY");
        assert_eq!(header("Cache-Control"), "no-store");
        assert_eq!(header("Referrer-Policy"), "same-origin");
        let html = String::from_utf8(reply.body.clone()).expect("text");
        assert!(html.contains("&lt;gateway&gt;"));
        assert!(!html.contains("<script") && !html.contains(" style="));
    }
}
