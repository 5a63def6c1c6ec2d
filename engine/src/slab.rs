//! Things under numbers that stay the same, as indexes hold them.

/// Things per chunk. Chunks never move, so growing copies nothing, however many there are.
const CHUNK: usize = 4096;

/// Holds things under numbers. A number is used again once its thing was removed.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, thing: T) -> u32 {
        if let Some(number) = self.free.pop() {
            *self.slot(number) = Some(thing);
            return number;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first chunk grows as it is filled: most slabs stay small.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let last = self.chunks.len() - 1;
        let number = last * CHUNK + self.chunks[last].len();
        self.chunks[last].push(Some(thing));
        u32::try_from(number).expect("memory is full long before 2^32 things are in it")
    }

    /// Takes a thing out that must be there.
    pub(crate) fn remove(&mut self, number: u32) -> T {
        let thing = self.slot(number).take().expect("a thing is removed once");
        self.free.push(number);
        thing
    }

    /// The thing under a number that may be out of date.
    pub(crate) fn find(&self, number: u32) -> Option<&T> {
        let index = number as usize;
        self.chunks[index / CHUNK][index % CHUNK].as_ref()
    }

    /// The thing under a number that an index holds.
    pub(crate) fn get(&self, number: u32) -> &T {
        self.find(number).expect("indexes hold numbers of things that exist")
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, number: u32) -> &mut T {
        self.slot(number).as_mut().expect("indexes hold numbers of things that exist")
    }

    fn slot(&mut self, number: u32) -> &mut Option<T> {
        let index = number as usize;
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }

    /// All things, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.chunks.iter().flatten().zip(0..);
        slots.filter_map(|(thing, number)| Some((number, thing.as_ref()?)))
    }

    /// The same, to change them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let slots = self.chunks.iter_mut().flatten().zip(0..);
        slots.filter_map(|(thing, number)| Some((number, thing.as_mut()?)))
    }

    /// Whether the things have the numbers from 0 on, and the next one gets the number behind them.
    pub(crate) fn is_dense(&self) -> bool {
        self.free.is_empty()
    }

    /// How many things there are.
    pub(crate) fn len(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        full + self.chunks.last().map_or(0, Vec::len) - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_are_used_again() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..10_000).map(|thing| slab.insert(thing)).collect();
        for &number in numbers.iter().step_by(2) {
            assert_eq!(slab.remove(number), number);
            assert_eq!(slab.find(number), None);
        }
        assert_eq!(slab.len(), 5_000);
        assert!(numbers.iter().skip(1).step_by(2).all(|&number| *slab.get(number) == number));
        assert!((0..5_000).all(|thing| numbers.contains(&slab.insert(thing))));
        assert_eq!(slab.len(), 10_000);
    }
}
