//! The alarms as data: which member raised which, and whether the quota did.

use mainstay_proto::maintenance::{AlarmMember, AlarmType};
use prost::Message;

/// Alarms that may exist at a time: one of each kind for every member id that anyone names. An
/// operator has a handful; more than this is somebody's loop.
const ALARMS: usize = 256;

/// All alarms. The message is what is written down.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AlarmSet {
    /// In order of kind and member.
    #[prost(message, repeated, tag = "1")]
    alarms: Vec<AlarmMember>,
    /// The NOSPACE alarm of this member is the quota's: it goes when there is space again.
    #[prost(message, optional, tag = "2")]
    automatic: Option<AlarmMember>,
}

impl AlarmSet {
    /// Those of one kind; all for `None`.
    pub(super) fn list(&self, kind: AlarmType) -> Vec<AlarmMember> {
        let wanted =
            |alarm: &&AlarmMember| kind == AlarmType::None || alarm.alarm == i32::from(kind);
        self.alarms.iter().filter(wanted).copied().collect()
    }

    /// Adds an alarm, unless there are too many; gives whether it is there now. One that was raised
    /// by an operator stays the operator's.
    pub(super) fn raise(&mut self, alarm: AlarmMember, automatic: bool) -> bool {
        match self.find(alarm) {
            Ok(_) if !automatic && self.automatic == Some(alarm) => self.automatic = None,
            Ok(_) => {}
            Err(position) if self.alarms.len() < ALARMS => {
                self.alarms.insert(position, alarm);
                self.automatic = self.automatic.or_else(|| automatic.then_some(alarm));
            }
            Err(_) => return false,
        }
        true
    }

    /// Takes an alarm out. Gives whether there was one.
    pub(super) fn lower(&mut self, alarm: AlarmMember) -> bool {
        if self.automatic == Some(alarm) {
            self.automatic = None;
        }
        match self.find(alarm) {
            Ok(position) => {
                self.alarms.remove(position);
                true
            }
            Err(_) => false,
        }
    }

    /// Whether the quota raised an alarm that is still there.
    pub(super) fn is_automatic(&self) -> bool {
        self.automatic.is_some()
    }

    /// Takes the quota's alarm out. Gives whether there was one.
    pub(super) fn lower_automatic(&mut self) -> bool {
        self.automatic.is_some_and(|alarm| self.lower(alarm))
    }

    fn find(&self, alarm: AlarmMember) -> Result<usize, usize> {
        let order = |alarm: &AlarmMember| (alarm.alarm, alarm.member_id);
        self.alarms.binary_search_by_key(&order(&alarm), order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(kind: AlarmType, member_id: u64) -> AlarmMember {
        AlarmMember { member_id, alarm: kind.into() }
    }

    #[test]
    fn alarms_are_raised_and_lowered() {
        let (space, corrupt) = (alarm(AlarmType::NoSpace, 7), alarm(AlarmType::Corrupt, 3));
        let mut set = AlarmSet::default();
        for one in [corrupt, space, space] {
            assert!(set.raise(one, false));
        }
        assert_eq!(set.list(AlarmType::None), [space, corrupt]);
        assert_eq!(set.list(AlarmType::Corrupt), [corrupt]);
        assert_eq!(AlarmSet::decode(&set.encode_to_vec()[..]), Ok(set.clone()));
        assert!(!set.lower(alarm(AlarmType::NoSpace, 8)));
        assert!(set.lower(space) && !set.lower(space));
        assert_eq!(set.list(AlarmType::None), [corrupt]);
    }

    #[test]
    fn only_the_quotas_alarm_goes_by_itself() {
        let space = alarm(AlarmType::NoSpace, 7);
        for (raised, goes) in [
            (&[true][..], true),
            (&[false], false),
            // Raised by the operator first, or afterwards: it is the operator's.
            (&[false, true], false),
            (&[true, false], false),
            (&[true, true], true),
        ] {
            let mut set = AlarmSet::default();
            for automatic in raised {
                assert!(set.raise(space, *automatic));
            }
            assert_eq!(set.lower_automatic(), goes, "{raised:?}");
            assert_eq!(set.list(AlarmType::None).is_empty(), goes, "{raised:?}");
        }
    }

    #[test]
    fn alarms_are_bounded() {
        let mut set = AlarmSet::default();
        for member in 0..1000 {
            let taken = set.raise(alarm(AlarmType::Corrupt, member), false);
            assert_eq!(taken, member < ALARMS as u64);
        }
        assert_eq!(set.list(AlarmType::None).len(), ALARMS);
    }
}
