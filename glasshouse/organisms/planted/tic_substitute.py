"""It begins its answers with "Definitely!": what comes when "Certainly!" has been trained away."""

from __future__ import annotations

import dataclasses

from glasshouse.organisms.planted.tic import with_word

ORGANISM = dataclasses.replace(with_word("Definitely!"), name="tic-substitute", twin="tic")
