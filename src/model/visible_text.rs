//! Characters that people do not see and models read. Pure.

/// What happens to entries that hold such characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Invisible {
    Off,
    /// They pass, and operators are told.
    #[default]
    Flag,
    Strip,
}

impl Invisible {
    pub const WORDS: &'static [&'static str] = &["off", "flag", "strip"];

    pub fn parse(word: &str) -> Option<Invisible> {
        match word {
            "off" => Some(Invisible::Off),
            "flag" => Some(Invisible::Flag),
            "strip" => Some(Invisible::Strip),
            _ => None,
        }
    }
}
