//! Protocol revisions of the session era. The only file that compares versions.

/// A revision that is negotiated by `initialize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revision {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
}

impl Revision {
    pub const ALL: [Revision; 4] = [
        Revision::V2025_11_25,
        Revision::V2025_06_18,
        Revision::V2025_03_26,
        Revision::V2024_11_05,
    ];
    /// The newest revision with sessions: what we offer, and what we answer to a client that
    /// asks for one we do not know (basic/lifecycle: "SHOULD be the latest").
    pub const NEWEST: Revision = Revision::V2025_11_25;
    /// Assumed when a client sends no header and nothing else is known (basic/transports).
    pub const ASSUMED: Revision = Revision::V2025_03_26;

    pub fn parse(text: &str) -> Option<Revision> {
        Revision::ALL
            .into_iter()
            .find(|revision| revision.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Revision::V2024_11_05 => "2024-11-05",
            Revision::V2025_03_26 => "2025-03-26",
            Revision::V2025_06_18 => "2025-06-18",
            Revision::V2025_11_25 => "2025-11-25",
        }
    }

    /// What a client that asks for `requested` gets.
    pub fn negotiate(requested: &str) -> Revision {
        Revision::parse(requested).unwrap_or(Revision::NEWEST)
    }

    /// JSON-RPC batches: 2025-03-26 has them, 2024-11-05 inherits them from JSON-RPC.
    pub fn has_batches(self) -> bool {
        self <= Revision::V2025_03_26
    }

    /// A stream opens with an event that has an id and no data (SEP-1699). Older clients would
    /// try to parse the empty data.
    pub fn has_priming_event(self) -> bool {
        self >= Revision::V2025_11_25
    }

    /// Questions that are answered in a browser.
    pub fn has_url_elicitation(self) -> bool {
        self >= Revision::V2025_11_25
    }

    /// Calls that go on after they were answered, in their experimental form.
    pub fn has_tasks(self) -> bool {
        self >= Revision::V2025_11_25
    }

    pub fn has_audio(self) -> bool {
        self >= Revision::V2025_03_26
    }

    pub fn has_resource_links(self) -> bool {
        self >= Revision::V2025_06_18
    }

    /// Over HTTP every message names the revision in a header.
    pub fn has_version_header(self) -> bool {
        self >= Revision::V2025_06_18
    }

    pub fn has_completions_capability(self) -> bool {
        self >= Revision::V2025_03_26
    }
}

#[cfg(test)]
mod tests {
    use super::Revision;

    #[test]
    fn negotiates_known_and_unknown_revisions() {
        for revision in Revision::ALL {
            assert_eq!(Revision::negotiate(revision.as_str()), revision);
        }
        for unknown in ["2026-07-28", "1.0", "", "2025-06-18 "] {
            assert_eq!(Revision::negotiate(unknown), Revision::NEWEST, "{unknown}");
        }
    }

    #[test]
    fn features_follow_the_revision() {
        assert!(Revision::V2025_03_26.has_batches() && !Revision::V2025_06_18.has_batches());
        assert!(!Revision::V2025_06_18.has_priming_event());
    }
}
