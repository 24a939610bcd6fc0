//! What the sources share that list and then watch: an answer as lines, and the pauses between
//! tries.

use std::io::{self, Read};
use std::time::Duration;

use crate::base::{limits, sys};
use crate::net::client::Response;
use crate::net::error::NetError;
use crate::wire::lines::LineReader;

/// The body of an answer; errors are those of `net`.
pub struct Body(Response);

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(io::Error::other)
    }
}

pub fn lines(response: Response) -> LineReader<Body> {
    LineReader::new(Body(response), limits::DISCOVERY_LINE_BYTES)
}

/// As `net` said it.
pub fn net_error(error: &io::Error) -> Option<&NetError> {
    error.get_ref()?.downcast_ref()
}

/// How long to wait before the next try: longer each time, up to a bound, and never the same for
/// all gateways of a site.
#[derive(Default)]
pub struct Pauses(u32);

impl Pauses {
    pub fn forget(&mut self) {
        self.0 = 0;
    }

    pub fn longer(&mut self) -> Duration {
        let grown = limits::RESTART_FIRST.saturating_mul(2_u32.saturating_pow(self.0));
        self.0 = self.0.saturating_add(1);
        let mut byte = [0];
        sys::random_bytes(&mut byte);
        let share = limits::RESTART_JITTER * (f64::from(byte[0]) / 127.5 - 1.0);
        grown.min(limits::RESTART_CEILING).mul_f64(1.0 + share)
    }
}

#[cfg(test)]
mod tests {
    use super::Pauses;
    use crate::base::limits;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut pauses = Pauses::default();
        for round in 0..1000_u32 {
            let pause = pauses.longer();
            let middle =
                (limits::RESTART_FIRST * 2_u32.pow(round.min(7))).min(limits::RESTART_CEILING);
            assert!(
                pause >= middle.mul_f64(0.79) && pause <= middle.mul_f64(1.21),
                "{round}"
            );
        }
        pauses.forget();
        assert!(pauses.longer() < limits::RESTART_FIRST * 2);
    }
}
