//! The allocator, and when it returns freed memory to the system.

use mimalloc::MiMalloc;
use std::hint::black_box;
use std::thread;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Time between two moments at which freed memory is returned.
const INTERVAL: Duration = Duration::from_secs(5);

/// Makes mimalloc return memory that was freed at least a second ago, again and again.
///
/// It does so by itself when more memory is freed later. An idle sidecar frees none, and would keep
/// the memory of its start or of its last load. When a thread ends that has used memory, mimalloc
/// looks at what all threads have freed.
pub(super) async fn return_freed_memory() {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let use_memory = || drop(black_box(Box::new(0)));
        // Without a thread, the memory returns later.
        drop(thread::Builder::new().name("allocator".to_owned()).spawn(use_memory));
    }
}
