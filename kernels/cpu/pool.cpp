// thread pool
