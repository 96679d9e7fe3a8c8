# The public API: the only place that lists its names.
from .api import backfill as backfill
from .api import check_code as check_code
from .api import explain as explain
from .api import failures as failures
from .api import load_graph as load_graph
from .api import plan as plan
from .api import run_job as run_job
from .api import status as status
from .errors import ConfigurationError as ConfigurationError
from .errors import CorruptMedia as CorruptMedia
from .errors import PermanentError as PermanentError
from .errors import SegueError as SegueError
from .errors import TransientError as TransientError
from .errors import Unavailable as Unavailable
from .media.audio import Audio as Audio
from .media.audio import Media as Media
from .model.graph import Graph as Graph
