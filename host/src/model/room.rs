//! What of a node's slots, memory and processors a task may take, so that nobody is in the way of what is more urgent.
//!
//! Some slots and memory are kept for priorities 1 and 2: attempts may last for days. Of attempts that burn no more are begun than there
//! are processors for, with one or two in reserve: each that waited in the sandbox would only hold its memory. Who is less urgent does
//! not count against who is more so.

use super::priority::Priority;

/// The least urgent priority for which room is kept.
const URGENT: u8 = 2;
/// One slot in so many is kept, and one byte.
const KEPT_OF: usize = 16;
/// Attempts that want a processor beyond those that have one, for each so many processors: the next goes on at once.
const RESERVE_OF: usize = 4;

/// Whether room is kept for tasks of this priority.
pub fn is_urgent(priority: Priority) -> bool {
    priority.get() <= URGENT
}

/// Of so few slots none is kept: whoever sets them wants them all.
const FEW_SLOTS: usize = 8;

/// How much of so many slots is kept for what is urgent.
pub fn kept_slots(slots: usize) -> usize {
    if slots < FEW_SLOTS { 0 } else { (slots / KEPT_OF).max(1) }
}

/// How much of so many bytes is kept for what is urgent, where so many slots are and the largest attempt takes so much: none where few of
/// those fit at once.
pub fn kept_memory(bytes: u64, slots: usize, largest: u64) -> u64 {
    let is_small = slots < FEW_SLOTS || bytes < largest.saturating_mul(4);
    if is_small { 0 } else { bytes / KEPT_OF as u64 }
}

/// Attempts that may want a processor before no further one is begun, where there are so many.
pub fn most_burning(processors: usize) -> usize {
    processors + processors.div_ceil(RESERVE_OF)
}

/// What attempts of a task name are known to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// They are over before anybody asks.
    Short,
    /// None has run yet: the first few say.
    New,
    /// They burn, and wait for a processor where there is none.
    Burns,
}

/// What is free on a node, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Attempts that may begin.
    pub slots: usize,
    /// Bytes of the memory budget.
    pub memory: u64,
    /// Of the slots, those that any task may have.
    pub common_slots: usize,
    /// Of the memory, what any task may have.
    pub common_memory: u64,
    /// Attempts of names that never ran and may begin.
    pub new: usize,
    /// Attempts that burn and may begin: of priority 1, of priorities 1 and 2 together, and so on.
    pub burning: [usize; 9],
}

impl Room {
    /// So much, for whoever wants it.
    pub fn of(slots: usize, memory: u64) -> Self {
        Self {
            slots,
            memory,
            common_slots: slots,
            common_memory: memory,
            new: usize::MAX,
            burning: [usize::MAX; 9],
        }
    }

    /// Whether a task of this priority finds a slot.
    pub fn has_slot(&self, priority: Priority) -> bool {
        self.slots > 0 && (is_urgent(priority) || self.common_slots > 0)
    }

    /// The memory that a task of this priority may have.
    pub fn memory_for(&self, priority: Priority) -> u64 {
        if is_urgent(priority) { self.memory } else { self.common_memory }
    }

    /// Whether another attempt of this priority that burns may begin.
    pub fn has_processor(&self, priority: Priority) -> bool {
        self.burning[index(priority)] > 0
    }

    /// Whether an attempt of this priority finds a slot, and what its name is known to need.
    pub fn fits(&self, priority: Priority, load: Load) -> bool {
        let finds = match load {
            Load::Short => true,
            Load::New => self.new > 0,
            Load::Burns => self.has_processor(priority),
        };
        finds && self.has_slot(priority)
    }

    /// What is left after a task took a slot and so much memory, and what its name is known to need.
    pub fn take(&mut self, priority: Priority, memory: u64, load: Load) {
        self.slots = self.slots.saturating_sub(1);
        self.memory = self.memory.saturating_sub(memory);
        if !is_urgent(priority) {
            self.common_slots = self.common_slots.saturating_sub(1);
            self.common_memory = self.common_memory.saturating_sub(memory);
        }
        self.common_slots = self.common_slots.min(self.slots);
        self.common_memory = self.common_memory.min(self.memory);
        if load == Load::New {
            self.new = self.new.saturating_sub(1);
        }
        if load == Load::Burns {
            for left in &mut self.burning[index(priority)..] {
                *left = left.saturating_sub(1);
            }
        }
    }

    /// Leaves nothing but what is kept for what is urgent.
    pub fn keep_the_rest(&mut self) {
        (self.common_slots, self.common_memory) = (0, 0);
    }
}

/// Where a priority stands in a list of all.
pub fn index(priority: Priority) -> usize {
    usize::from(priority.get()) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priority(value: i64) -> Priority {
        Priority::new(value).unwrap()
    }

    #[test]
    fn some_slots_are_kept_but_not_of_a_few() {
        let kept = [1, 2, 7, 8, 16, 31, 128, 10_000].map(kept_slots);
        assert_eq!(kept, [0, 0, 0, 1, 1, 1, 8, 625]);
    }

    #[test]
    fn what_is_urgent_takes_what_is_kept_and_others_do_not() {
        let mut room = Room {
            common_slots: 1,
            common_memory: 10,
            ..Room::of(2, 30)
        };
        assert!(room.has_slot(priority(5)) && room.memory_for(priority(5)) == 10);
        room.take(priority(5), 10, Load::Short);
        assert!(!room.has_slot(priority(3)) && room.has_slot(priority(2)));
        assert_eq!(room.memory_for(priority(1)), 20);
        room.take(priority(2), 20, Load::Short);
        assert!(!room.has_slot(priority(1)));
    }

    #[test]
    fn who_is_less_urgent_takes_no_processor_from_who_is_more_so() {
        let mut room = Room {
            burning: [2; 9],
            ..Room::of(10, 10)
        };
        room.take(priority(5), 0, Load::Burns);
        room.take(priority(5), 0, Load::Burns);
        assert!(!room.has_processor(priority(5)) && !room.has_processor(priority(9)));
        assert!(room.has_processor(priority(4)));
        room.take(priority(1), 0, Load::Burns);
        room.take(priority(1), 0, Load::Burns);
        assert!(!room.has_processor(priority(4)));
    }
}
