"""How two processes that train together are started on a machine without GPUs.

`accelerate launch --cpu` starts one process, whatever number is asked for, unless MPI is there; its launcher for GPUs
starts two, which then find none and use the processor.
"""

TWO_PROCESSES = [
    "accelerate.commands.launch",
    "--multi_gpu",
    *("--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"),
    *("--mixed_precision", "no", "--dynamo_backend", "no"),
]
ON_CPU = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
