"""How often something may be done: a bucket that fills at a steady rate."""


class TokenBucket:
    """Allows `rate` events a second on average, and as many at once as fit in one second.

    Time is given by the caller, in seconds of a clock that never goes back.
    Source: the token bucket of RFC 3290, appendix A, with a burst of one second.
    """

    def __init__(self, rate: float, now: float):
        self.rate = rate
        self.size = max(rate, 1.0)
        self.level = self.size
        self.filled = now

    def take(self, now: float) -> bool:
        """Take one from the bucket; False if it is empty."""
        self.level = min(self.size, self.level + (now - self.filled) * self.rate)
        self.filled = now
        if self.level < 1:
            return False
        self.level -= 1
        return True

    def wait(self) -> float:
        """Seconds until the next one is there."""
        return max(0.0, (1 - self.level) / self.rate)
