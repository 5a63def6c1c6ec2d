//! What lies between members, and between clients and members.
//!
//! What is believed of real networks, and so what a cluster has to live with:
//!
//! * Any message between members may be lost, may arrive any number of times, after any time, and behind
//!   messages that were sent later. Most take less than a few milliseconds, some take seconds.
//! * What arrives is what was sent: frames carry checksums, and one that is damaged is dropped with
//!   its connection. Nobody forges messages.
//! * Anything may be cut off from anything else, for as long as it likes, in both directions or in one:
//!   members from members, clients from members. Who is cut off is not told so.
//! * Members forward requests over connections. A request arrives once or not at all; its answer comes
//!   back once; and who waits for one learns that the connection broke, sooner or later. Whether the
//!   request was done is unknown then.
//! * A client's request arrives once or not at all, and its answer too. A client waits for an answer for as
//!   long as it has patience, and then asks another member something else.
//!
//! At the end of a history the network heals: it loses nothing, and nobody is cut off.

use std::collections::BTreeSet;

use super::super::random::Random;
use super::report::Faults;

/// An end of a way through the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Member(u64),
    /// All of them: they sit beside each other.
    Clients,
}

/// How bad it is.
#[derive(Debug, Clone)]
pub(super) struct Weather {
    /// Of 1000 messages between members.
    pub(super) lost: usize,
    pub(super) repeated: usize,
    /// Of 1000 messages; they take up to `slow_us`.
    pub(super) slow: usize,
    pub(super) delay_us: usize,
    pub(super) slow_us: usize,
}

pub(super) struct Network {
    pub(super) weather: Weather,
    /// From and to.
    cut: BTreeSet<(End, End)>,
    healed: bool,
}

impl Network {
    pub(super) fn new(weather: Weather) -> Network {
        Network { weather, cut: BTreeSet::new(), healed: false }
    }

    /// When the copies of a message arrive, in microseconds from now; none if it is lost.
    pub(super) fn send(
        &mut self,
        (from, to): (End, End),
        random: &mut Random,
        faults: &mut Faults,
    ) -> Vec<u64> {
        let chance = |random: &mut Random, of_1000| random.below(1000) < of_1000;
        if self.is_cut(from, to) {
            faults.cut_off += 1;
            return Vec::new();
        }
        let between_members = from != End::Clients && to != End::Clients;
        let mut copies = 1;
        if between_members && !self.healed {
            if chance(random, self.weather.lost) {
                faults.messages_lost += 1;
                return Vec::new();
            }
            if chance(random, self.weather.repeated) {
                faults.messages_repeated += 1;
                copies = 2;
            }
        }
        (0..copies).map(|_| self.delay_us(random, faults)).collect()
    }

    /// How long something takes that does arrive.
    pub(super) fn delay_us(&mut self, random: &mut Random, faults: &mut Faults) -> u64 {
        let slow = !self.healed && random.below(1000) < self.weather.slow;
        faults.messages_late += usize::from(slow);
        let most = if slow { self.weather.slow_us } else { self.weather.delay_us };
        1 + random.below(most) as u64
    }

    pub(super) fn is_cut(&self, from: End, to: End) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Cuts what is on one side off from what is on the other, for messages from the first to the second, or
    /// in both directions.
    pub(super) fn cut(&mut self, side: &[End], other: &[End], one_way: bool) {
        for &left in side {
            for &right in other {
                self.cut.insert((left, right));
                if !one_way {
                    self.cut.insert((right, left));
                }
            }
        }
    }

    /// Nobody is cut off any more.
    pub(super) fn mend(&mut self) {
        self.cut.clear();
    }

    /// Nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.mend();
        self.healed = true;
    }
}
