//! Doubly linked lists over elements that are kept elsewhere, by index.
//!
//! The links lie apart from the elements, 8 bytes each, so that moving an
//! element touches no other element and the links of a large table stay in
//! the cache. One [`Links`] serves several [`List`]s, as long as each element
//! is in one of them at most; with more than one lane, in one of each lane. The
//! lanes lie side by side: where elements are neighbours in both, moving one
//! touches no more memory than with one lane.
//!
//! Every operation takes constant time, a walk over a list aside. An index that makes no sense (not in
//! a list when it is to be removed, in one already when it is to be added) is
//! ignored; only removing an element from another list than its own would mix
//! the two up.

/// The links of all elements. Elements are numbered densely from 0: there is
/// a link for each number up to the greatest that was ever in a list.
#[derive(Debug, Default)]
pub(crate) struct Links<const LANES: usize = 1> {
    links: Vec<[Link; LANES]>,
}

/// A list of elements.
#[derive(Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    lane: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    prev: u32,
    next: u32,
}

/// No element: the list ends here.
const END: u32 = u32::MAX;

/// The link of an element that is in no list.
const DETACHED: Link = Link {
    prev: u32::MAX - 1,
    next: u32::MAX - 1,
};

/// How many elements can be told apart.
pub(crate) const MAX_ELEMENTS: u32 = u32::MAX - 1;

impl Default for List {
    fn default() -> Self {
        Self::in_lane(0)
    }
}

impl List {
    /// An empty list in a lane of the links.
    pub(crate) fn in_lane(lane: usize) -> Self {
        Self {
            head: END,
            tail: END,
            lane,
        }
    }

    /// The first element.
    pub(crate) fn front(&self) -> Option<u32> {
        (self.head != END).then_some(self.head)
    }

    /// The elements from the first to the last.
    pub(crate) fn forward<'a, const LANES: usize>(
        &self,
        links: &'a Links<LANES>,
    ) -> impl Iterator<Item = u32> + 'a {
        chain(self.head, self.lane, links, |link| link.next)
    }

    /// The elements from the last to the first.
    pub(crate) fn backward<'a, const LANES: usize>(
        &self,
        links: &'a Links<LANES>,
    ) -> impl Iterator<Item = u32> + 'a {
        chain(self.tail, self.lane, links, |link| link.prev)
    }

    /// Adds an element that is in no list.
    pub(crate) fn push_back<const LANES: usize>(&mut self, links: &mut Links<LANES>, index: u32) {
        if links.make_room(index) && links.get(index, self.lane) == DETACHED {
            self.attach_back(links, index);
        }
    }

    /// Takes an element of this list out.
    pub(crate) fn remove<const LANES: usize>(&mut self, links: &mut Links<LANES>, index: u32) {
        let link = links.get(index, self.lane);
        if link != DETACHED {
            self.unlink(links, link);
            links.set(index, self.lane, DETACHED);
        }
    }

    /// Makes an element of this list its last.
    pub(crate) fn move_to_back<const LANES: usize>(
        &mut self,
        links: &mut Links<LANES>,
        index: u32,
    ) {
        let link = links.get(index, self.lane);
        if link != DETACHED && self.tail != index {
            self.unlink(links, link);
            self.attach_back(links, index);
        }
    }

    fn attach_back<const LANES: usize>(&mut self, links: &mut Links<LANES>, index: u32) {
        links.set(
            index,
            self.lane,
            Link {
                prev: self.tail,
                next: END,
            },
        );
        match links.get_mut(self.tail, self.lane) {
            Some(last) => last.next = index,
            None => self.head = index,
        }
        self.tail = index;
    }

    /// Joins the neighbours of a link.
    fn unlink<const LANES: usize>(&mut self, links: &mut Links<LANES>, Link { prev, next }: Link) {
        match links.get_mut(prev, self.lane) {
            Some(before) => before.next = next,
            None => self.head = next,
        }
        match links.get_mut(next, self.lane) {
            Some(after) => after.prev = prev,
            None => self.tail = prev,
        }
    }
}

/// Goes from element to element until there is no other.
fn chain<const LANES: usize>(
    from: u32,
    lane: usize,
    links: &Links<LANES>,
    step: fn(Link) -> u32,
) -> impl Iterator<Item = u32> {
    let known = |&index: &u32| (index as usize) < links.links.len();
    std::iter::successors(Some(from).filter(known), move |&index| {
        Some(step(links.get(index, lane))).filter(known)
    })
}

impl<const LANES: usize> Links<LANES> {
    /// Whether there is a link for the element now.
    fn make_room(&mut self, index: u32) -> bool {
        if index >= MAX_ELEMENTS {
            return false;
        }
        let needed = (index as usize).saturating_add(1);
        if self.links.len() < needed {
            self.links.resize(needed, [DETACHED; LANES]);
        }
        true
    }

    fn get(&self, index: u32, lane: usize) -> Link {
        let lanes = self.links.get(index as usize);
        let link = lanes.and_then(|lanes| lanes.get(lane));
        link.copied().unwrap_or(DETACHED)
    }

    /// `None` for [`END`].
    fn get_mut(&mut self, index: u32, lane: usize) -> Option<&mut Link> {
        self.links.get_mut(index as usize)?.get_mut(lane)
    }

    fn set(&mut self, index: u32, lane: usize, link: Link) {
        if let Some(place) = self.get_mut(index, lane) {
            *place = link;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::{DETACHED, END, Links, List, MAX_ELEMENTS};

    /// The elements from front to back; checks that the way back is the same.
    fn elements(list: &List, links: &Links) -> Vec<u32> {
        let forward: Vec<u32> = list.forward(links).take(MORE_THAN_THERE_ARE).collect();
        let mut backward: Vec<u32> = list.backward(links).take(MORE_THAN_THERE_ARE).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        forward
    }

    const MORE_THAN_THERE_ARE: usize = 16;

    #[derive(Clone, Debug)]
    enum Op {
        PushBack(usize, u32),
        Remove(u32),
        MoveToBack(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..2_usize, 0..8_u32).prop_map(|(list, index)| Op::PushBack(list, index)),
            (0..8_u32).prop_map(Op::Remove),
            (0..8_u32).prop_map(Op::MoveToBack),
        ]
    }

    proptest! {
        /// Two lists over one array of links behave as two deques.
        #[test]
        fn two_lists_are_two_deques(ops in prop::collection::vec(op(), 0..64)) {
            let mut links: Links = Links::default();
            let mut lists = [List::default(), List::default()];
            let mut deques = [VecDeque::new(), VecDeque::new()];
            for op in ops {
                let (Op::PushBack(_, index) | Op::Remove(index) | Op::MoveToBack(index)) = op;
                let home = deques.iter().position(|deque| deque.contains(&index));
                match op {
                    Op::PushBack(list, index) => {
                        lists[list].push_back(&mut links, index);
                        if home.is_none() {
                            deques[list].push_back(index);
                        }
                    }
                    Op::Remove(index) => {
                        lists[home.unwrap_or(0)].remove(&mut links, index);
                        for deque in &mut deques {
                            deque.retain(|&other| other != index);
                        }
                    }
                    Op::MoveToBack(index) => {
                        lists[home.unwrap_or(0)].move_to_back(&mut links, index);
                        if let Some(home) = home {
                            deques[home].retain(|&other| other != index);
                            deques[home].push_back(index);
                        }
                    }
                }
                for (list, deque) in lists.iter().zip(&deques) {
                    prop_assert_eq!(&elements(list, &links), &Vec::from(deque.clone()));
                    prop_assert_eq!(list.front(), deque.front().copied());
                }
            }
        }
    }

    #[test]
    fn indices_that_cannot_be_are_ignored() {
        let mut links: Links = Links::default();
        let mut list = List::default();
        for index in [MAX_ELEMENTS, END] {
            list.push_back(&mut links, index);
            list.remove(&mut links, index);
            list.move_to_back(&mut links, index);
        }
        assert_eq!(list.front(), None);
        assert!(links.links.is_empty());
        assert_eq!(links.get(7, 0), DETACHED);
    }
}
