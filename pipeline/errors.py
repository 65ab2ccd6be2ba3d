"""What a user's input to the pipeline can get wrong; slides have their own tree in `tiling.errors`.

InputError
├── ConfigError       a setting that is unknown, of the wrong type, or impossible
├── SheetError        slides.csv does not say what is needed
├── TargetError       what a network has to learn of a slide is missing or says nothing
├── FeaturesError     features of tiles that are missing, damaged, or not as a model needs them
├── ModelFileError    the file is no model that this Saccade can run
├── FetchError        weights that cannot be fetched, or are not those that were wanted
├── ResultsError      a results folder that is missing, unfinished, or in use
 ├── RegionError       a region of interest that cannot be read, or holds nothing of the slide
 ├── DivergedError     training, or a model, came to numbers that are none
 ├── RanksError        one of the processes that train together is gone
 └── WorkersError      workers of dask that are not there, or died, or see other files
"""


class InputError(Exception):
    """Anything that a config, sheet, model file or results folder can get wrong."""


class ConfigError(InputError):
    """A setting that is unknown, of the wrong type, or impossible."""


class SheetError(InputError):
    """The sample sheet does not say what is needed."""


class TargetError(InputError):
    """What a network has to learn of a slide is missing or says nothing."""


class FeaturesError(InputError):
    """Features of tiles that are missing, damaged, or not as a model needs them."""


class ModelFileError(InputError):
    """The file is no model that this Saccade can run."""


class FetchError(InputError):
    """Weights that cannot be fetched, or are not those that were wanted."""


class ResultsError(InputError):
    """A results folder that is missing, unfinished, or in use."""


class RegionError(InputError):
    """A region of interest that cannot be read, or holds nothing of the slide."""


class DivergedError(InputError):
    """Training, or a model, came to numbers that are none."""


class RanksError(InputError):
    """One of the processes that train together is gone."""


class WorkersError(InputError):
    """Workers of dask that are not there, died over and over, or see other files."""
