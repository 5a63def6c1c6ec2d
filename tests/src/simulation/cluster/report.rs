//! What simulations of clusters did, in numbers.

use std::ops::AddAssign;

/// Numbers that are summed up, each with a line of the table.
macro_rules! counters {
    ($(#[$attribute:meta])* $name:ident { $($(#[$field_attribute:meta])* $field:ident: $text:literal,)* }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_attribute])* pub $field: usize,)*
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: $name) {
                $(self.$field += other.$field;)*
            }
        }

        impl $name {
            /// Lines of a table: what, and how many.
            pub fn rows(&self) -> Vec<(&'static str, usize)> {
                vec![$(($text, self.$field),)*]
            }
        }
    };
}

counters! {
    /// Faults that were injected, by kind.
    Faults {
        crashes: "fault: crashes",
        resized: "fault: starts with another number of cores",
        pauses: "fault: processes stopped for a while",
        clock_jumps: "fault: clocks that stood still",
        replaced: "fault: disks lost, members replaced",
        partitions: "fault: partitions, both ways",
        one_way: "fault: partitions, one way",
        clients_cut_off: "fault: clients cut off from members",
        cut_off: "fault: messages cut off",
        messages_lost: "fault: messages lost",
        messages_repeated: "fault: messages repeated",
        messages_late: "fault: messages late, out of order",
        connections_broken: "fault: connections broken with requests on them",
        writes_lost: "fault: writes lost",
        writes_torn: "fault: writes torn",
        writes_late: "fault: writes done, not reported",
        bits_flipped: "fault: bits flipped, on members",
        slow_disks: "fault: slow disks",
        full_disks: "fault: full disks",
        impatient: "fault: clients that lost patience",
    }
}

counters! {
    /// What was done and checked.
    Report {
        histories: "histories checked",
        undecided: "histories undecided",
        events: "events",
        simulated_ms: "simulated milliseconds",
        operations: "operations in histories",
        answered: "  answered",
        refused: "  refused, and not done",
        unknown: "  without an answer",
        read_at_followers: "  reads at followers",
        watches: "watches checked",
        watch_events: "events checked",
        resumed: "  watches that went on at another member",
        hashes: "hashes compared between members",
        entries: "entries compared between members",
        leases_expired: "leases expired, none too early",
        compactions: "compactions",
        elections: "leaders that took over",
        transfers: "leaderships handed over",
        changes: "changes of members",
        snapshots: "snapshots taken",
        installed: "snapshots installed from other members",
        repaired: "damaged entries mended by others",
        starts: "starts",
    }
}
