"""Checksums of the 18 MMLU subjects available: subject → SHA-256 of its dev and its test file.

Origin: ``HaeChan0305/MLILAB-FedLLM``, a mirror whose layout (a header, answers 0 to 3) differs
from that of Hendrycks et al. (2021).
"""

from __future__ import annotations

ADDRESS = "HaeChan0305/MLILAB-FedLLM/d92730e8bacd7b3a61e551e015e40588e10234b4/data/mmlu"

CHECKSUMS: dict[str, tuple[str, str]] = {
    "abstract_algebra": (
        "f5bc2f1c0e4098ddba357af2b02919269b1a0bbab9e7c11b31c1c20da36a3263",
        "afdfc6f71eb42297a51f53bd221429671a4065a6425bd7631acb84fef011bfd4",
    ),
    "anatomy": (
        "44f3842ff1451edabb6356feb452e7fa36fa60f71b857e1a768b4833f23c167c",
        "b27ce42f40482ba735cf0de8e8bbba3382d506c099d8483c55e9cacdac4e3eec",
    ),
    "astronomy": (
        "0a6f1573c324bcef3684933833f273b12f1b22c7a05eefc3bb5b2e38d8eaa034",
        "1008ecdf7f88a336001b04f739f3fcfff72b3e15fb746880ace2d05f0002c957",
    ),
    "business_ethics": (
        "27987aed70d9550924d6af037c38597bfd67a4fe9513814cac0d052ab9a8e048",
        "7ce6063b0ed2ba08ac51cc94be1708ce91aeecd17f71cabbb2f86b4e80f3876a",
    ),
    "college_computer_science": (
        "3c5cf94f26d6bfa8c19df7df3214032f95d29139f6018f03d99f92f6db637d52",
        "f06e071452389e4a9f0aa7c5bc07401b282ffd659f9ec08c2d301b1fca471024",
    ),
    "computer_security": (
        "029054135a2122654866880966bb9c81b16b1301caae5a1d18092093b223caa7",
        "f4b8b8f107144acd0c2b343553986c161a759cd459706cb72f9bb72752655162",
    ),
    "conceptual_physics": (
        "bac7a74663e5f892418034692895176873f0a6560cd2512c71da6994c7437337",
        "7186a0cdcd18dff2183dbd26d44f2d59d01f42687092e1229088735d508c06e1",
    ),
    "global_facts": (
        "6b3da0cce9ff48e7357783ad7390c488eb07bc26d00a3ceb42c81e2cd2e671b9",
        "b80c9b31bc56727ebb3f1f980fbf40dbbd48565f609d1be9642ebe10a1c747a2",
    ),
    "high_school_geography": (
        "55d2bcd20524a0d0c8b39fb9b48aec36adfdb93ca2009271a58cc02d60fc89e3",
        "4c0c06e32b73ec3f5b55bdab2a124b3b9736e888d2edadc6f40d6172052f7507",
    ),
    "international_law": (
        "712493120d7112ca187666ef8ff75886a9dfdae3aeac9b5e6a309d0c6a8c7265",
        "e4fb345f044b54ef01ddda7126b61c328202cf0160e8f27831f082cc63da8ed9",
    ),
    "jurisprudence": (
        "67bf7563f8b90c6682e716ff1faada4be62be12ec967c8d03c4d7cac99d01158",
        "26780d8e35636af29b00b26b808d43aa466d9c06fa7b27a9b4c753b335883286",
    ),
    "logical_fallacies": (
        "721672e4daf2ea761545776077c4825d90b2132ed847126fdf9b21f1b594da43",
        "f40e1e6098a69cd8511c009f024c7d7caaad4a2f7cb9501be5a377167a5def60",
    ),
    "machine_learning": (
        "25b78353edd62f6b4d17fe6e2ea391018c23e61e2a0fe6e8807eb32cea2561af",
        "50d163266dbc8672b8097c32a4765ff4a5e8767ac4a8971e70ddccbd5b817bd3",
    ),
    "management": (
        "bb5b1bffac34f751762e98ff6185b523202b62f42081f6b13df79b37a445254c",
        "423261b2633e20df5b4febfba4ecc7366917cdbabdb7e3ede4b1be98adf5dce5",
    ),
    "moral_disputes": (
        "ce86707de1a10887c14abfaedc3daa6a6b19fa5d0216c2fc593cf8dc54c21e56",
        "2f3379380a469cbc2ed5d03372bae01306a19c65d053cc638435b92808b439f2",
    ),
    "philosophy": (
        "42d9b8146f5dda534ad75bac24defcc9e41d61957cdfd9060c79d837274eccdd",
        "74576271e2f9e3a01b4c437209323e833fb09a4e3a79217b16caa65e94ee8ba0",
    ),
    "us_foreign_policy": (
        "e75e2e201b5eeb949de35640c58f107bbeba4e7d53acf88688eec27b1e2b69c2",
        "5fbff75d8a6f1bfa1e4ca696a2db9ffbf11e3b97809ab97c00c813b96bd27e08",
    ),
    "world_religions": (
        "13404d8d076006e6c4aa13cd05a7ff4691be0e59b7630bdf7e9826244464ecdd",
        "203c71d35b4d667a4010b032ad57cc75a561209c94e2235eb5c549310bf23789",
    ),
}
