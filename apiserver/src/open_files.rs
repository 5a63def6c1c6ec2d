//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes all that the system allows. Shells start programs with 1,024, for the sake of ones that
/// use `select`; each client is one open file.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused only by a sandbox that has its own reasons: then fewer clients fit.
    let _refused = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let before = getrlimit(Resource::Nofile);
        let lowered = before.maximum.map_or(4096, |maximum| maximum - 1);
        let lower = Rlimit { current: Some(lowered), ..before };
        setrlimit(Resource::Nofile, lower).expect("lowering is allowed");
        raise_limit();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: before.maximum, ..before });
    }
}
