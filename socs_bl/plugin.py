"""The table OCS reads to find our agents. It imports nothing, so that a broken agent cannot hide the others."""

package_name = "socs_bl"

agents = {
    "CommensalCoordinator": {"module": "socs_bl.agents.coordinator.agent", "entry_point": "main"},
    "InstanceRecorder": {"module": "socs_bl.agents.instance_recorder.agent", "entry_point": "main"},
    "InstanceAnalyzer": {"module": "socs_bl.agents.instance_analyzer.agent", "entry_point": "main"},
    "CBEPipeline": {"module": "socs_bl.agents.cbe_pipeline.agent", "entry_point": "main"},
    "ExecutorListener": {"module": "socs_bl.agents.executor_listener.agent", "entry_point": "main"},
    "ConfigListener": {"module": "socs_bl.agents.config_listener.agent", "entry_point": "main"},
    "Telescope": {"module": "socs_bl.agents.telescope.agent", "entry_point": "main"},
    "Widar": {"module": "socs_bl.agents.widar.agent", "entry_point": "main"},
    "BDFPublisher": {"module": "socs_bl.agents.bdf_publisher.agent", "entry_point": "main"},
}
