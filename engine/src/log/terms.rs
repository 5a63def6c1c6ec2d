//! The term of every entry of a log: where each term begins.

/// Terms by index, behind a base.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// The entry before the first, and its term.
    base: (u64, u64),
    /// First index of each term behind the base, and the term.
    runs: Vec<(u64, u64)>,
    last: u64,
}

impl Terms {
    /// Of a log that goes on behind entry `index` of term `term`.
    pub fn new(index: u64, term: u64) -> Terms {
        Terms { base: (index, term), runs: Vec::new(), last: index }
    }

    /// The entry before the first, and its term.
    pub fn base(&self) -> (u64, u64) {
        self.base
    }

    /// The newest entry, and its term.
    pub fn last(&self) -> (u64, u64) {
        (self.last, self.runs.last().map_or(self.base.1, |run| run.1))
    }

    /// First index of each term behind the base, and the term.
    pub fn runs(&self) -> &[(u64, u64)] {
        &self.runs
    }

    /// The next entry is of `term`.
    pub fn push(&mut self, term: u64) {
        self.extend(self.last + 1, term);
    }

    /// All entries up to `index` are of `term`, as far as they are not known yet.
    pub fn extend(&mut self, index: u64, term: u64) {
        assert!(index > self.last && term >= self.last().1, "terms ascend");
        if self.runs.is_empty() || term != self.last().1 {
            self.runs.push((self.last + 1, term));
        }
        self.last = index;
    }

    /// The term of an entry; `None` before the base and behind the end.
    pub fn at(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        let known = index > self.base.0 && index <= self.last;
        let run = self.runs.iter().rev().find(|run| run.0 <= index).filter(|_| known);
        run.map(|run| run.1)
    }

    /// Drops everything behind `index`.
    pub fn truncate(&mut self, index: u64) {
        assert!(index >= self.base.0, "only what is not compacted is replaced");
        self.runs.retain(|run| run.0 <= index);
        self.last = self.last.min(index);
    }

    /// Forgets what is before `index`, which becomes the base. No effect where it is not known.
    pub fn compact(&mut self, index: u64) {
        let Some(term) = self.at(index) else { return };
        let behind = self.runs.partition_point(|run| run.0 <= index + 1);
        self.runs.drain(..behind.saturating_sub(1));
        match self.runs.first_mut() {
            _ if index == self.last => self.runs.clear(),
            Some(run) => run.0 = run.0.max(index + 1),
            None => {}
        }
        self.base = (index, term);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(list: &[u64]) -> Terms {
        let mut terms = Terms::new(10, 2);
        list.iter().for_each(|&term| terms.push(term));
        terms
    }

    #[test]
    fn every_entry_has_its_term_whatever_is_dropped() {
        let all = [2, 2, 3, 7, 7];
        let term = |index: u64| if index == 10 { 2 } else { all[index as usize - 11] };
        for upto in 10..=15 {
            for base in 10..=upto {
                let mut terms = terms(&all);
                terms.truncate(upto);
                terms.compact(base);
                for index in 8..18 {
                    let expected = (base..=upto).contains(&index).then(|| term(index));
                    assert_eq!(terms.at(index), expected, "{base}..={upto}: {index}");
                }
                assert_eq!(terms.last(), (upto, term(upto)));
                // As raft wants it: the first run begins right behind the base.
                assert!(terms.runs().first().is_none_or(|run| run.0 == base + 1));
                terms.push(9);
                assert_eq!((terms.at(upto), terms.at(upto + 1)), (Some(term(upto)), Some(9)));
            }
        }
    }

    #[test]
    fn stretches_of_one_term_are_taken_at_once() {
        let mut terms = Terms::new(0, 0);
        terms.extend(5, 1);
        terms.extend(9, 1);
        terms.extend(12, 4);
        assert_eq!(terms.runs(), [(1, 1), (10, 4)]);
        assert_eq!(terms.last(), (12, 4));
    }
}
