//! The hash of a password (PBKDF2 with HMAC-SHA-256), as it stands in a configuration. Pure: the
//! salt is the caller's. Deliberately absent: any way back, and a limit on tries (`auth`).

use std::fmt;
use std::num::NonZeroU32;

use ring::pbkdf2;

use crate::base::limits;
use crate::wire::base64;

const SCHEME: &str = "pbkdf2-sha256";
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// `pbkdf2-sha256$ROUNDS$SALT$HASH`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl PasswordHash {
    pub fn of(password: &str, salt: [u8; SALT_BYTES]) -> PasswordHash {
        let rounds = NonZeroU32::new(limits::PASSWORD_ROUNDS).unwrap_or(NonZeroU32::MIN);
        let mut hash = vec![0; HASH_BYTES];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, rounds, &salt, password.as_bytes(), &mut hash);
        PasswordHash {
            rounds,
            salt: salt.to_vec(),
            hash,
        }
    }

    /// `None`: not a hash of ours, or one that is too cheap or too dear to compute.
    pub fn parse(text: &str) -> Option<PasswordHash> {
        let mut parts = text.strip_prefix(SCHEME)?.strip_prefix('$')?.split('$');
        let rounds: NonZeroU32 = parts.next()?.parse().ok()?;
        let mut bytes = || base64::decode_url(parts.next()?.as_bytes());
        let (salt, hash) = (bytes()?, bytes()?);
        let most = limits::PASSWORD_ROUNDS_MOST;
        let is_good = (limits::PASSWORD_ROUNDS_LEAST..=most).contains(&rounds.get())
            && (SALT_BYTES..=2 * HASH_BYTES).contains(&salt.len())
            && hash.len() == HASH_BYTES
            && parts.next().is_none();
        is_good.then_some(PasswordHash { rounds, salt, hash })
    }

    /// Takes a good part of a second, and as long for a wrong password as for the right one.
    pub fn verifies(&self, password: &str) -> bool {
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        let password = password.as_bytes();
        pbkdf2::verify(algorithm, self.rounds, &self.salt, password, &self.hash).is_ok()
    }

    /// What [`PasswordHash::parse`] reads.
    pub fn text(&self) -> String {
        let (salt, hash) = (
            base64::encode_url(&self.salt),
            base64::encode_url(&self.hash),
        );
        format!("{SCHEME}${}${salt}${hash}", self.rounds)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::PasswordHash;

    /// Of "correct horse battery", made elsewhere with 100,000 rounds and a salt of zeros.
    const HASH: &str =
        "pbkdf2-sha256$100000$AAAAAAAAAAAAAAAAAAAAAA$bzYmnnISQnrzo8N3R3HpQFDMT_MLZlxtshLEdDCD1Jc";

    #[test]
    fn knows_the_password_of_a_hash() {
        let hash = PasswordHash::parse(HASH).expect("a hash");
        assert!(hash.verifies("correct horse battery"));
        for wrong in ["", "correct horse batterY", "correct horse battery "] {
            assert!(!hash.verifies(wrong), "{wrong}");
        }
        assert_eq!(hash.text(), HASH);
        assert_eq!(format!("{hash:?}"), "PasswordHash(***)");
    }

    #[test]
    fn refuses_what_is_no_hash() {
        let with = |from: &str, to: &str| HASH.replacen(from, to, 1);
        for bad in [
            String::new(),
            "secret".into(),
            with("sha256", "sha1"),
            with("100000", "99999"),
            with("100000", "4000000000"),
            with("100000", "x"),
            with("AAAA", ""),
            with("$AAAAAAAAAAAAAAAAAAAAAA", ""),
            format!("{HASH}A"),
            format!("{HASH}$"),
            HASH[..HASH.len() - 4].to_owned(),
        ] {
            assert_eq!(PasswordHash::parse(&bad), None, "{bad}");
        }
    }
}
