"""The calendar of cron expressions, and the time zones that come with the product.

One definition for all programs: the operator and ``attune lint`` check parameters with it, and the timer fires by it
(docs/timers.md, docs/decisions/0062-one-calendar.md).
"""
