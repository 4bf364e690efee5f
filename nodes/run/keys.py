"""Keys of this pack in the dictionaries that the host hands from node to node and from sampler to network.

Times are float32 or Python floats there: as conditioning, or as arguments of a network, the host would cast them to
the network's dtype.

In transformer_options, for one network call:
    TIME: (B,) the time of x_t, set by the model for the network.
    TARGET: the time that the step leads to: a float or (B,) from a sampler, (B,) from the model for the network.
        Where a sampler sets none, `transitions.target_time` says what holds.

In transformer_options, for a whole run:
    MASKED: True under a noise mask that keeps something.
    TRANSITIONS: True where a transition sampler is hidden in another function and cannot set TARGET.
    FOREIGN: the name of a sampler function that is neither the host's nor this pack's.

In the dictionary of a condition:
    PAD_FEATURE: (1,D) or (D,), the feature that pads the prompt's text features.
    LABEL: (1,) integer, the class; the number of classes means none.
    IN_CELLS: True once the condition's area is converted from pixels to cells.
"""

from __future__ import annotations

TIME = "tim_t"
TARGET = "tim_r"
TEXT = "tim_text"
MASKED = "tim_masked"
TRANSITIONS = "tim_transitions"
FOREIGN = "tim_foreign"

PAD_FEATURE = "tim_pad_feature"
LABEL = "tim_label"
IN_CELLS = "tim_area_in_cells"
