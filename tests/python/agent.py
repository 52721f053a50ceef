"""An agent on the public Python client: agent.py SOCKET COUNT."""

import os
import sys

import varta

agent = varta.Varta.connect(sys.argv[1])
statuses = (varta.Status.OK, varta.Status.DEGRADED, varta.Status.CRITICAL)
for number in range(int(sys.argv[2])):
    outcome = agent.beat(statuses[number % 3], number)
    assert outcome.is_sent, outcome
print(os.getpid())
