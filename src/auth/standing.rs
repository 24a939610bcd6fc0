//! How many requests each principal has in work, and how many it may have.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub struct Standing {
    /// 0 is any number.
    most: AtomicUsize,
    in_work: Mutex<HashMap<String, usize>>,
}

/// One request in work, until it is dropped.
pub struct Permit {
    standing: Arc<Standing>,
    /// Empty: it is not counted.
    key: String,
}

impl Standing {
    pub fn new(most: usize) -> Standing {
        Standing {
            most: AtomicUsize::new(most),
            in_work: Mutex::default(),
        }
    }

    pub fn set(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// `None`: there are too many already.
    pub fn enter(self: &Arc<Self>, key: &str) -> Option<Permit> {
        let most = self.most.load(Ordering::Relaxed);
        let mut permit = Permit {
            standing: self.clone(),
            key: String::new(),
        };
        if most == 0 {
            return Some(permit);
        }
        let mut in_work = self.in_work.lock().unwrap_or_else(PoisonError::into_inner);
        match in_work.get_mut(key) {
            Some(count) if *count >= most => return None,
            Some(count) => *count += 1,
            None => {
                in_work.insert(key.to_owned(), 1);
            }
        }
        drop(in_work);
        key.clone_into(&mut permit.key);
        Some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.key.is_empty() {
            return;
        }
        let in_work = &self.standing.in_work;
        let mut in_work = in_work.lock().unwrap_or_else(PoisonError::into_inner);
        match in_work.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                in_work.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Standing;

    #[test]
    fn each_has_its_own_number_and_gives_it_back() {
        let standing = Arc::new(Standing::new(2));
        let (one, two) = (standing.enter("a"), standing.enter("a"));
        assert!(one.is_some() && two.is_some());
        assert!(standing.enter("a").is_none());
        let other = standing.enter("b");
        assert!(other.is_some());
        drop((one, other));
        assert!(standing.enter("a").is_some());
        standing.set(0);
        let many: Vec<_> = (0..10).map(|_| standing.enter("a")).collect();
        assert!(many.iter().all(Option::is_some));
        drop((many, two));
        assert!(standing.in_work.lock().unwrap().is_empty());
    }
}
