"""Each module of a wing has a test file of its name, or states which file tests it."""

import collections
import pathlib

import maml_keras

ROOT = pathlib.Path(maml_keras.__file__).parent
TESTS = pathlib.Path(__file__).parent

# Modules without a test file of their own, and the file that tests each.
ELSEWHERE = {
    "backend/autograph": "outer/test_meta_gradients",
    "backend/configured": "outer/test_meta_gradients",
    "backend/convolutions": "backend/test_task_axis",
    "backend/custom_gradient": "backend/test_layer_norm",
    "backend/flag": "learner/test_dropout",
    "backend/printable": "export/test_card_file",
    "backend/windows": "backend/test_task_axis",
    "data/audit_episodes": "data/test_audit",
    "data/audit_report": "data/test_audit",
    "data/catalogue": "cli/test_commands",
    "data/class_draws": "data/test_task_sizes",
    "data/dealing": "data/test_split",
    "data/family_pools": "data/test_mixture",
    "data/meta_dataset_sources": "data/test_image_splits",
    "data/near_copies": "data/test_audit",
    "data/pipeline_options": "data/test_episodes",
    "data/plain_errors": "data/test_image_files",
    "data/pool_preparation": "data/test_image_preparation",
    "data/preparation": "data/test_table_preparation",
    "data/rankings": "data/test_few_shot",
    "data/shots_draws": "data/test_task_sizes",
    "data/target_kinds": "data/test_table_preparation",
    "data/task_files": "export/test_file_adaptation",
    "evaluation/batches": "evaluation/test_evaluate",
    "evaluation/curves": "evaluation/test_evaluate",
    "evaluation/output_forms": "evaluation/test_ensemble",
    "evaluation/trace_recording": "evaluation/test_trace",
    "execution/devices": "execution/test_auto_task_map",
    "execution/keras_replicas": "execution/test_replicas",
    "execution/place": "execution/test_replicas",
    "execution/scopes": "execution/test_replicas",
    "execution/start_at": "execution/test_replicas",
    "execution/step_by_step": "outer/test_bad_tasks",
    "experiments/compared_algorithm": "experiments/test_comparison",
    "experiments/tuner": "experiments/test_tuning",
    "experiments/tuning_plot": "experiments/test_tuning",
    "export/array_checks": "export/test_file_adaptation",
    "export/learner_check": "export/test_learner_files",
    "export/learner_formats": "export/test_learner_files",
    "export/learner_functions": "export/test_learner_files",
    "export/lowering/function": "export/test_walk",
    "export/lowering/table": "export/test_walk",
    "export/lowering/values": "export/test_walk",
    "export/lowering/windows": "export/test_convolution",
    "export/predictor_files": "export/test_conversion",
    "export/predictor_inputs": "export/test_conversion",
    "export/runtimes": "export/test_conversion",
    "learner/graph_survey": "execution/test_auto_task_map",
    "learner/target_specs": "export/test_saved_model",
    "learner/vocabularies": "learner/test_batch_checks",
    "monitoring/diagnoses/catalogue": "monitoring/test_diagnoses",
    "monitoring/diagnoses/diagnosis": "monitoring/test_diagnoses",
    "monitoring/diagnoses/of_gain": "monitoring/test_diagnoses",
    "monitoring/diagnoses/of_steps": "monitoring/test_diagnoses",
    "monitoring/diagnoses/of_training": "monitoring/test_diagnoses",
    "monitoring/figures": "monitoring/test_watch",
    "monitoring/pictures": "monitoring/test_watch",
    "monitoring/references": "monitoring/test_diagnoses_in_runs",
    "monitoring/tensorboard_hparams": "monitoring/test_watch",
    "monitoring/tensorboard_layout": "monitoring/test_watch",
    "monitoring/time_budget": "monitoring/test_watch",
    "monitoring/views": "monitoring/test_watch",
    "outer/adaptation": "outer/test_maml",
    "outer/automatic_settings": "outer/test_maml",
    "outer/backup": "experiments/test_runs",
    "outer/bad_task_policies": "outer/test_bad_tasks",
    "outer/bad_task_search": "outer/test_bad_tasks",
    "outer/gradient_twin": "outer/test_gradient_check",
    "outer/keras_functions": "outer/test_bad_tasks",
    "outer/meta_step": "outer/test_maml",
}


def modules():
    """Every module of a wing by its path, such as `inner/loop`."""
    paths = [path.relative_to(ROOT) for path in ROOT.rglob("*.py")]
    return {
        path.with_suffix("").as_posix()
        for path in paths
        if len(path.parts) > 1 and path.stem != "__init__"
    }


def own_test(module):
    wing, name = module.split("/", 1)
    return TESTS / wing / f"test_{pathlib.PurePath(name).name}.py"


def test_every_module_has_a_test_file_of_its_name_or_states_which_file_tests_it():
    without = {module for module in modules() if not own_test(module).exists()}
    assert without == set(ELSEWHERE)


def test_the_stated_files_exist():
    assert not [f for f in ELSEWHERE.values() if not (TESTS / f"{f}.py").exists()]


def test_no_two_test_files_have_the_same_name():
    # pytest's default import mode imports a test file under its name alone.
    names = collections.Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]
