//! What a tool is pinned by: the SHA-256 of its definition in one canonical form. Pure.

/// What happens to tools whose definition is another than the one that was pinned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pinning {
    /// Nothing is pinned.
    #[default]
    Off,
    Warn,
    /// They are neither listed nor called until an operator approves them.
    Block,
}

impl Pinning {
    pub const WORDS: &'static [&'static str] = &["off", "warn", "block"];

    pub fn parse(word: &str) -> Option<Pinning> {
        match word {
            "off" => Some(Pinning::Off),
            "warn" => Some(Pinning::Warn),
            "block" => Some(Pinning::Block),
            _ => None,
        }
    }
}
